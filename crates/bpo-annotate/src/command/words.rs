//! A command line, split into words as a shell would, without a shell.

use std::iter::Peekable;
use std::str::Chars;

use crate::Error;

/// Splits a command line at white space. Single quotes keep everything, double quotes keep
/// everything but `\"` and `\\`, a backslash keeps the next character. Nothing is expanded.
///
/// # Errors
/// [`Error::CommandLine`] for an empty line, an open quote or a final backslash.
pub fn split_words(line: &str) -> Result<Vec<String>, Error> {
    let refuse = |reason| Error::CommandLine { line: line.to_owned(), reason };
    let mut rest = line.chars().peekable();
    let mut words = Vec::new();
    while skip_space(&mut rest) {
        words.push(word(&mut rest).map_err(refuse)?);
    }
    match words.is_empty() {
        true => Err(refuse("is empty")),
        false => Ok(words),
    }
}

/// Whether anything is left after the white space.
fn skip_space(rest: &mut Peekable<Chars<'_>>) -> bool {
    while rest.next_if(|symbol| symbol.is_whitespace()).is_some() {}
    rest.peek().is_some()
}

fn word(rest: &mut Peekable<Chars<'_>>) -> Result<String, &'static str> {
    let mut word = String::new();
    while let Some(symbol) = rest.next_if(|symbol| !symbol.is_whitespace()) {
        match symbol {
            '\'' | '"' => quoted(symbol, rest, &mut word)?,
            '\\' => word.push(rest.next().ok_or("ends in a backslash")?),
            other => word.push(other),
        }
    }
    Ok(word)
}

fn quoted(quote: char, rest: &mut Peekable<Chars<'_>>, word: &mut String) -> Result<(), &'static str> {
    loop {
        match rest.next().ok_or("has an open quote")? {
            end if end == quote => return Ok(()),
            '\\' if quote == '"' => {
                let kept = rest.next_if(|symbol| matches!(symbol, '"' | '\\'));
                word.push(kept.unwrap_or('\\'));
            }
            other => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_is_split_as_a_shell_would() {
        let words = split_words(r#" python3  judge.py 'a b' "c \"d\" \n" e\ f ''"#).unwrap();
        assert_eq!(words, ["python3", "judge.py", "a b", r#"c "d" \n"#, "e f", ""]);
        assert_eq!(split_words("$HOME *;ls").unwrap(), ["$HOME", "*;ls"]);
    }

    #[test]
    fn a_line_that_does_not_end_properly_is_refused() {
        for line in ["", "  ", "a 'b", "a \"b", "a \\"] {
            assert!(split_words(line).is_err(), "{line}");
        }
    }

    proptest! {
        #[test]
        fn quoted_words_come_back(words in proptest::collection::vec("[^']*", 1..5)) {
            let line: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            prop_assert_eq!(split_words(&line.join(" ")).unwrap(), words);
        }
    }
}
