//! The three ways to lay groups out in rows.

use super::{Group, Layout, Segment, Target};
use crate::Error;

/// Lays each completion in a row of its own, after a copy of its prompt.
///
/// # Errors
/// [`Error::Layout`] if there are no groups, a prompt is empty, a group has no completions, or
/// the batch does not fit 32-bit indices.
pub fn padded(groups: &[Group<'_>], pad_id: u32) -> Result<Layout, Error> {
    check(groups)?;
    let mut rows = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        rows.extend((0..group.completions.len()).map(|k| vec![Part { index, from: k, to: k + 1 }]));
    }
    build(groups, &rows, pad_id)
}

/// Lays each group in one row, `[prompt | completion 0 | completion 1 | …]`; positions restart
/// after the prompt for each completion.
///
/// # Errors
/// As [`padded`].
pub fn shared_prefix(groups: &[Group<'_>], pad_id: u32) -> Result<Layout, Error> {
    check(groups)?;
    let rows: Vec<_> = groups.iter().enumerate().map(|(index, group)| vec![Part::whole(index, group)]).collect();
    build(groups, &rows, pad_id)
}

/// Lays groups as [`shared_prefix`] does and puts several in one row of at most `max_time`
/// places, first-fit decreasing; a group that is longer gets a row of its own.
///
/// The same groups always give the same layout.
///
/// # Errors
/// As [`padded`].
pub fn packed(groups: &[Group<'_>], pad_id: u32, max_time: usize) -> Result<Layout, Error> {
    check(groups)?;
    let rows: Vec<Vec<Part>> = first_fit_decreasing(groups, max_time)
        .into_iter()
        .map(|row| row.into_iter().map(|index| Part::whole(index, &groups[index])).collect())
        .collect();
    build(groups, &rows, pad_id)
}

/// A prompt and the completions `from..to` that follow it, in one row.
#[derive(Clone, Copy)]
struct Part {
    index: usize,
    from: usize,
    to: usize,
}

impl Part {
    fn whole(index: usize, group: &Group<'_>) -> Self {
        Self { index, from: 0, to: group.completions.len() }
    }
}

fn check(groups: &[Group<'_>]) -> Result<(), Error> {
    if groups.is_empty() {
        return Err(Error::Layout("there are no groups"));
    }
    if groups.iter().any(|group| group.prompt.is_empty()) {
        return Err(Error::Layout("a prompt is empty"));
    }
    if groups.iter().any(|group| group.completions.is_empty()) {
        return Err(Error::Layout("a group has no completions"));
    }
    Ok(())
}

/// Which groups share a row: the longest first, each in the first row with room for it.
fn first_fit_decreasing(groups: &[Group<'_>], max_time: usize) -> Vec<Vec<usize>> {
    let whole = |index| length(groups, Part::whole(index, &groups[index]));
    let mut longest_first: Vec<usize> = (0..groups.len()).collect();
    longest_first.sort_by_cached_key(|&index| (std::cmp::Reverse(whole(index)), index));
    let mut rows: Vec<(usize, Vec<usize>)> = Vec::new();
    for index in longest_first {
        let length = whole(index);
        match rows.iter_mut().find(|(used, _)| *used + length <= max_time) {
            Some((used, row)) => {
                *used += length;
                row.push(index);
            }
            None => rows.push((length, vec![index])),
        }
    }
    rows.into_iter().map(|(_, row)| row).collect()
}

/// Places a part takes in its row.
fn length(groups: &[Group<'_>], part: Part) -> usize {
    let group = &groups[part.index];
    let completions = &group.completions[part.from..part.to];
    completions.iter().fold(group.prompt.len(), |sum, completion| sum + completion.len())
}

/// Writes rows of parts into vectors.
fn build(groups: &[Group<'_>], rows: &[Vec<Part>], pad_id: u32) -> Result<Layout, Error> {
    let lengths = rows.iter().map(|row| row.iter().map(|&part| length(groups, part)).sum());
    let time: usize = lengths.max().unwrap_or(0);
    let first_sequence = first_sequences(groups);
    let sequences = groups.iter().map(|group| group.completions.len()).sum();
    let places = places(rows.len(), time, sequences)?;
    let mut layout = Layout {
        rows: rows.len(),
        time,
        ids: vec![pad_id; places],
        positions: vec![0; places],
        segments: vec![Segment::PAD; places],
        targets: Vec::new(),
        sequences,
    };
    for (row, parts) in rows.iter().enumerate() {
        let mut pen = Pen { layout: &mut layout, row, time: 0 };
        for part in parts {
            pen.part(&groups[part.index], part, first_sequence[part.index]);
        }
    }
    // Stable: tokens of a sequence stay in their order.
    layout.targets.sort_by_key(|target| target.sequence);
    Ok(layout)
}

/// The number of the first completion of each group.
fn first_sequences(groups: &[Group<'_>]) -> Vec<usize> {
    let counts = groups.iter().map(|group| group.completions.len());
    counts
        .scan(0, |next, count| {
            let first = *next;
            *next += count;
            Some(first)
        })
        .collect()
}

/// `rows × time`, if it and every index fit.
fn places(rows: usize, time: usize, sequences: usize) -> Result<usize, Error> {
    let fits = |n: usize| u32::try_from(n).is_ok_and(|n| n < u32::MAX);
    rows.checked_mul(time)
        .filter(|_| fits(rows) && fits(time) && fits(sequences))
        .ok_or(Error::Layout("the batch does not fit 32-bit indices"))
}

/// Writes one row from left to right.
struct Pen<'a> {
    layout: &'a mut Layout,
    row: usize,
    time: usize,
}

impl Pen<'_> {
    fn part(&mut self, group: &Group<'_>, part: &Part, first_sequence: usize) {
        self.run(group.prompt, 0, Segment::trunk(part.index as u32));
        let trunk_end = self.time - 1;
        for k in part.from..part.to {
            let completion = group.completions[k];
            self.targets(completion, trunk_end, (first_sequence + k) as u32);
            let branch = Segment { group: part.index as u32, branch: k as u32 + 1 };
            self.run(completion, group.prompt.len(), branch);
        }
    }

    /// Writes tokens of one segment, positions counted from `position`.
    fn run(&mut self, tokens: &[u32], position: usize, segment: Segment) {
        let start = self.row * self.layout.time + self.time;
        for (i, &token) in tokens.iter().enumerate() {
            self.layout.ids[start + i] = token;
            self.layout.positions[start + i] = (position + i) as u32;
            self.layout.segments[start + i] = segment;
        }
        self.time += tokens.len();
    }

    /// Notes what predicts a completion that starts here: the end of the trunk predicts its first
    /// token, each of its tokens the next one.
    fn targets(&mut self, completion: &[u32], trunk_end: usize, sequence: u32) {
        let row = self.row as u32;
        let before = std::iter::once(trunk_end).chain(self.time..);
        let targets = completion.iter().zip(before);
        self.layout.targets.extend(targets.map(|(&token, time)| Target { row, time: time as u32, token, sequence }));
    }
}
