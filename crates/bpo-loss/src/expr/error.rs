/// Why a text is not a loss expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct ExpressionError {
    /// Where, in characters of the whole text, from 1. One past the last character when something is missing
    /// at the end.
    pub column: usize,
    /// What is wrong there.
    pub message: String,
}

impl ExpressionError {
    /// The line of `text` that the column lies on, and below it a caret under the column.
    #[must_use]
    pub fn pointing(&self, text: &str) -> String {
        let before: String = text.chars().take(self.column.saturating_sub(1)).collect();
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        let margin: String = before[start..].chars().map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        format!("{line}\n{margin}^")
    }
}

/// An [`ExpressionError`] whose place is still a byte offset.
#[derive(Debug)]
pub(super) struct Fault {
    pub at: usize,
    pub message: String,
}

impl Fault {
    pub fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    pub fn within(self, text: &str) -> ExpressionError {
        let column = text.char_indices().take_while(|(offset, _)| *offset < self.at).count() + 1;
        ExpressionError { column, message: self.message }
    }
}

/// `unknown {kind} "{name}"`, with the nearest of the known names where one is near.
pub(super) fn unknown<'n>(kind: &str, name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let near = known.map(|known| (edits(name, known), known)).min().filter(|(edits, known)| {
        // Half of a short name replaced is another name, not a typing error.
        *edits <= 2 && 2 * edits < known.len().max(2)
    });
    let hint = near.map(|(_, near)| format!(" (did you mean \"{near}\"?)")).unwrap_or_default();
    format!("unknown {kind} \"{name}\"{hint}")
}

/// Levenshtein distance in bytes.
fn edits(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, l) in left.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, r) in right.bytes().enumerate() {
            let replaced = diagonal + usize::from(l != r);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}
