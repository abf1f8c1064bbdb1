//! Sequence-scoring batches as plain vectors: padded, shared-prefix and packed.
//!
//! All three say the same thing: which completion token is predicted from which context. They
//! differ in how often a prompt is computed and in how much padding there is.

mod build;

pub use build::{packed, padded, shared_prefix};

/// A prompt and its completions, as token ids.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// What every completion continues; not empty.
    pub prompt: &'a [u32],
    /// The completions, at least one; an empty one has no targets.
    pub completions: Vec<&'a [u32]>,
}

/// One sequence-scoring batch. Vectors over places are row-major, `[rows, time]`.
///
/// A sequence is a completion, counted over the batch in order of appearance: the completions of
/// group 0, then those of group 1, and so on; the numbers are the same in every layout. Padding
/// is on the right only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many rows there are.
    pub rows: usize,
    /// How long each row is.
    pub time: usize,
    /// Token ids, `[rows, time]`.
    pub ids: Vec<u32>,
    /// Positions, `[rows, time]`: they restart after the prompt for each completion; 0 in padding.
    pub positions: Vec<u32>,
    /// Which part of which group a place belongs to, `[rows, time]`.
    pub segments: Vec<Segment>,
    /// What is predicted where, ordered by sequence and then by place in the completion.
    pub targets: Vec<Target>,
    /// How many completions there are, those without targets included.
    pub sequences: usize,
}

/// The hidden state at `(row, time)` predicts `token`, which belongs to completion `sequence`.
///
/// Several targets can share one place: the last prompt token predicts the first token of every
/// completion that follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The row of the hidden state.
    pub row: u32,
    /// The place of the hidden state in its row.
    pub time: u32,
    /// The token that is predicted.
    pub token: u32,
    /// The completion the token belongs to.
    pub sequence: u32,
}

/// The part of a batch a place belongs to: a prompt (the trunk) or one completion (a branch).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Segment {
    /// The index of the group.
    pub group: u32,
    /// 0 for the prompt, 1 and up for its completions.
    pub branch: u32,
}

impl Segment {
    /// Padding: sees nothing and is seen by nothing.
    pub const PAD: Self = Self { group: u32::MAX, branch: u32::MAX };

    /// The prompt of a group.
    pub fn trunk(group: u32) -> Self {
        Self { group, branch: 0 }
    }

    /// Whether a place of this segment may attend to one of `other`, as far as segments say;
    /// causality comes on top.
    pub fn sees(self, other: Self) -> bool {
        let same_group = self.group == other.group && self != Self::PAD;
        same_group && (other.branch == 0 || other.branch == self.branch)
    }
}

impl Layout {
    /// Whether `query` may attend to `key` in `row`: the key is not later, and its segment is seen.
    ///
    /// False outside the batch. A padding query attends to nothing, not even to itself.
    pub fn may_attend(&self, row: usize, query: usize, key: usize) -> bool {
        match (self.segment(row, query), self.segment(row, key)) {
            (Some(from), Some(to)) => key <= query && from.sees(to),
            _ => false,
        }
    }

    /// Whether a causal mask and right padding say it all: every row is one prompt followed by at
    /// most one completion.
    pub fn is_plain(&self) -> bool {
        self.time == 0 || self.segments.chunks(self.time).all(is_plain_row)
    }

    fn segment(&self, row: usize, time: usize) -> Option<Segment> {
        let segments = self.segments.chunks(self.time.max(1)).nth(row)?;
        segments.get(time).copied()
    }
}

/// A trunk, then one branch of the same group, then padding; each may be empty but the trunk.
fn is_plain_row(row: &[Segment]) -> bool {
    let Some(&first) = row.first() else { return true };
    let mut parts = row.to_vec();
    parts.dedup();
    if parts.last() == Some(&Segment::PAD) {
        parts.pop();
    }
    match parts.as_slice() {
        [_] => first.branch == 0,
        [_, branch] => first.branch == 0 && branch.group == first.group && branch.branch != 0,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
