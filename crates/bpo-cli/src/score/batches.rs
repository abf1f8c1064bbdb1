//! Which rows are computed together.
use crate::failure::Failure;

/// Rows that are sorted by length together; output is flushed after as many.
const WINDOW: usize = 256;

/// Groups the rows of one window, given by their lengths, into batches of at most `budget` tokens,
/// padding included; a longer row is a batch of its own. Longest first, so that memory peaks early.
pub fn batches(lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(lengths[row]));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for row in order {
        match batches.last_mut() {
            // The first row of a batch is its longest.
            Some(batch) if lengths[batch[0]] * (batch.len() + 1) <= budget => batch.push(row),
            _ => batches.push(vec![row]),
        }
    }
    batches
}

/// Gives all that `each_row` comes by to `score`, [`WINDOW`] rows at a time.
pub fn in_windows<T>(
    each_row: impl FnOnce(&mut dyn FnMut(T) -> Result<(), Failure>) -> Result<(), Failure>,
    mut score: impl FnMut(&[T]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut window = Vec::with_capacity(WINDOW);
    each_row(&mut |row| {
        window.push(row);
        if window.len() == WINDOW {
            score(&window)?;
            window.clear();
        }
        Ok(())
    })?;
    if window.is_empty() { Ok(()) } else { score(&window) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_full_but_the_last_and_hold_every_row_once() {
        for rows in [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 3 * WINDOW] {
            let mut windows: Vec<Vec<usize>> = Vec::new();
            let each_row = |each: &mut dyn FnMut(usize) -> Result<(), Failure>| (0..rows).try_for_each(each);
            in_windows(each_row, |window| {
                windows.push(window.to_vec());
                Ok(())
            })
            .unwrap();
            assert_eq!(windows.len(), rows.div_ceil(WINDOW));
            assert_eq!(windows.concat(), (0..rows).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_row_is_in_one_batch_within_the_budget() {
        let lengths = [3, 9, 1, 1, 40, 8, 2];
        let batches = batches(&lengths, 20);
        let mut rows: Vec<usize> = batches.iter().flatten().copied().collect();
        rows.sort_unstable();
        assert_eq!(rows, [0, 1, 2, 3, 4, 5, 6]);
        for batch in &batches {
            let longest = batch.iter().map(|&row| lengths[row]).max().unwrap();
            assert!(batch.len() == 1 || longest * batch.len() <= 20, "{batch:?}");
        }
    }
}
