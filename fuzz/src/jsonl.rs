//! Rows of JSON: what was read is read again, and errors are short.
use bpo_data::{
    Error, read_completions_from, read_json_rows_from, read_outcomes_from, read_preferences_from, read_prompts_from,
    read_references_from, read_texts_from,
};

/// No message about a row is longer, in bytes: keys are shown, contents are not.
const LONGEST_MESSAGE: usize = 1_200;

/// Rows written as JSON lines are the rows that were read, lines never go back, and no reader fails in another way
/// than by a short error that names the source.
pub fn jsonl(data: &[u8]) {
    match read_json_rows_from("fuzz", data) {
        Ok(rows) => {
            assert!(!rows.is_empty());
            assert!(rows.windows(2).all(|two| two[0].line <= two[1].line));
            let text: String = rows.iter().map(|row| format!("{}\n", row.value)).collect();
            let again = read_json_rows_from("again", text.as_bytes()).expect("what was read can be written and read");
            let values = |rows: Vec<bpo_data::Row>| rows.into_iter().map(|row| row.value).collect::<Vec<_>>();
            assert_eq!(values(rows), values(again));
        }
        Err(error) => check(&error),
    }
    told(read_prompts_from("fuzz", data));
    told(read_preferences_from("fuzz", data));
    told(read_references_from("fuzz", data));
    told(read_texts_from("fuzz", data));
    told(read_completions_from("fuzz", data));
    told(read_outcomes_from("fuzz", data));
}

fn told<T>(result: Result<T, Error>) {
    if let Err(error) = result {
        check(&error);
    }
}

fn check(error: &Error) {
    let message = error.to_string();
    assert!(message.starts_with("fuzz") && message.len() <= LONGEST_MESSAGE, "{message}");
}
