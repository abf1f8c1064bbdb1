//! What converters do to tensors, undone.

/// How a tensor of a GGUF file differs from the one that it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Not at all.
    Nothing,
    /// 1 was added: ggml has no norm that does it itself.
    PlusOne,
    /// Rows of each head stand in pairs that are rotated together, where ours stand in halves.
    Pairs {
        /// Heads.
        heads: usize,
    },
    /// All queries, all keys, all values, where ours are together for each head.
    Blocks {
        /// Heads.
        heads: usize,
    },
    /// `[out, in]`, where ours are `[in, out]`.
    Transposed,
}

impl Change {
    /// `values` of a matrix (or of a vector, whose rows have one column) as they were before; `shape` as it was before.
    pub fn undo(self, values: Vec<f32>, shape: &[usize]) -> Vec<f32> {
        let rows = shape.first().copied().unwrap_or(1);
        let columns = shape.get(1).copied().unwrap_or(1);
        match self {
            Self::Nothing => values,
            Self::PlusOne => values.into_iter().map(|value| value - 1.0).collect(),
            Self::Pairs { heads } => {
                let half = rows / heads / 2;
                // Row (head, half, index) of ours is (head, index, half) of theirs.
                let theirs = |row: usize| row - row % (2 * half) + row % half * 2 + row / half % 2;
                if half * heads * 2 == rows { by_rows(&values, rows, columns, theirs) } else { values }
            }
            Self::Blocks { heads } => {
                let width = rows / heads / 3;
                // Row (head, block, index) of ours is (block, head, index) of theirs.
                let theirs = |row: usize| (row / width % 3 * heads + row / width / 3) * width + row % width;
                if width * heads * 3 == rows { by_rows(&values, rows, columns, theirs) } else { values }
            }
            Self::Transposed => {
                let value = |index: usize| values[index % columns * rows + index / columns];
                (0..rows * columns).map(value).collect()
            }
        }
    }
}

/// Rows in another order: row `r` of the result is row `theirs(r)`.
fn by_rows(values: &[f32], rows: usize, columns: usize, theirs: impl Fn(usize) -> usize) -> Vec<f32> {
    (0..rows).flat_map(|row| &values[theirs(row) * columns..][..columns]).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What llama.cpp's converter does for `llama`: `reshape(heads, 2, half, …).swapaxes(1, 2)`.
    #[test]
    fn rows_in_pairs_become_halves() {
        let (heads, half, columns) = (3, 4, 2);
        let ours: Vec<f32> = (0..heads * 2 * half * columns).map(|value| value as f32).collect();
        let mut theirs = vec![0.0; ours.len()];
        for head in 0..heads {
            for part in 0..2 {
                for index in 0..half {
                    let (from, to) = (head * 2 * half + part * half + index, head * 2 * half + index * 2 + part);
                    theirs[to * columns..][..columns].copy_from_slice(&ours[from * columns..][..columns]);
                }
            }
        }
        let shape = [heads * 2 * half, columns];
        assert_eq!(Change::Pairs { heads }.undo(theirs.clone(), &shape), ours);
        assert_ne!(theirs, ours);
        // A bias.
        assert_eq!(Change::Pairs { heads: 1 }.undo(vec![0.0, 2.0, 1.0, 3.0], &[4]), [0.0, 1.0, 2.0, 3.0]);
    }

    /// `gptneox`: `reshape(heads, 3, width, …)`, then the three after each other.
    #[test]
    fn blocks_become_heads() {
        let theirs = ["q0", "q1", "k0", "k1", "v0", "v1"]
            .map(|name| name.as_bytes()[1] as f32 + name.as_bytes()[0] as f32 * 10.0);
        let ours = Change::Blocks { heads: 2 }.undo(theirs.to_vec(), &[6]);
        assert_eq!(ours, [0, 2, 4, 1, 3, 5].map(|index| theirs[index]));
    }

    #[test]
    fn the_rest_is_arithmetic() {
        assert_eq!(Change::PlusOne.undo(vec![1.0, 0.5], &[2]), [0.0, -0.5]);
        assert_eq!(
            Change::Transposed.undo(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[3, 2]),
            [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
        );
        // A width that its heads do not divide is refused by its shape later on, not here.
        assert_eq!(Change::Pairs { heads: 2 }.undo(vec![1.0; 3], &[3]), [1.0; 3]);
    }
}
