use super::*;
use crate::Message;
use crate::samples::shared_data;

#[test]
fn rows_keep_their_lines_and_prompts_their_index() {
    let bytes = b"{\"prompt\":\"a\"}\n\n{\"prompt\":\"b\",\"label\":\"r\"}\n";
    let rows = read_prompts_from("data", bytes).unwrap();
    let shape: Vec<_> = rows.iter().map(|r| (r.id, r.line, r.prompt.text())).collect();
    assert_eq!(shape, [(0, 1, "a".to_owned()), (1, 3, "b".to_owned())]);
    assert_eq!(rows[1].reference.as_deref(), Some("r"));
}

#[test]
fn schema_errors_name_source_and_line() {
    let bytes = b"{\"prompt\":\"a\"}\n{\"nothing\":\"SECRET\"}\n";
    let errors = [
        read_prompts_from("data", bytes).unwrap_err(),
        read_preferences_from("data", &bytes[15..]).unwrap_err(),
        read_references_from("data", &bytes[15..]).unwrap_err(),
        read_texts_from("data", &bytes[15..]).unwrap_err(),
    ];
    for (error, line) in errors.iter().zip([2, 1, 1, 1]) {
        let message = error.to_string();
        let start = format!("data:{line}: unknown schema: the row has [nothing]; accepted: ");
        assert!(message.starts_with(&start), "{message}");
        assert!(!message.contains("SECRET"));
    }
}

#[test]
fn skipped_pairs_are_counted_by_reason() {
    let bytes = br#"{"prompt":"q","chosen":"a","rejected":"a"}
{"prompt":"q","chosen":"a","rejected":"b"}
{"chosen":"\n\nHuman: x\n\nAssistant: a","rejected":"\n\nHuman: y\n\nAssistant: b"}"#;
    let read = read_preferences_from("data", bytes).unwrap();
    assert_eq!(read.rows.len(), 1);
    assert_eq!(read.rows[0].line, 2);
    let counts: Vec<_> = read.skipped.values().copied().collect();
    assert_eq!(counts, [1, 1]);
}

#[test]
fn hh_pairs_of_the_shared_data_are_read() {
    let Some(path) = shared_data("hh_pairs", "hh-harmless-base-test.jsonl.gz") else { return };
    let read = read_preferences(&path).unwrap();
    assert_eq!(read.rows.len() + read.skipped.values().sum::<usize>(), 2_312);
    assert_eq!(read.skipped.values().copied().collect::<Vec<_>>(), [5]);
    for row in &read.rows {
        let Prompt::Messages(turns) = &row.prompt else { panic!("line {}", row.line) };
        assert_eq!(turns[0].role, "user", "line {}", row.line);
        assert!(!row.chosen.contains("\n\nHuman:") && !row.rejected.contains("\n\nHuman:"));
    }
    let ends_with_user =
        |row: &&PreferenceRow| matches!(&row.prompt, Prompt::Messages(t) if t.last().is_some_and(|m| m.role == "user"));
    assert_eq!(read.rows.iter().filter(ends_with_user).count(), 2_307);
    assert_eq!(read_prompts(&path).unwrap().len(), 2_312);
}

#[test]
fn sharegpt_pairs_of_the_shared_data_are_read() {
    let Some(path) = shared_data("sharegpt_pairs", "sharegpt-dpo-en.json") else { return };
    let read = read_preferences(&path).unwrap();
    assert_eq!(read.rows.len() + read.skipped.values().sum::<usize>(), 300);
    assert_eq!(read.rows[0].line, 2);
    let first = Message::new(
        "user",
        "Hi! I'd like to create a new language game simulating the \
        first person perspective of a character named Angela.",
    );
    assert_eq!(read.rows[0].prompt, Prompt::Messages(vec![first]));
    assert!(read.rows.iter().all(|row| !row.chosen.is_empty() && !row.rejected.is_empty()));
}

#[test]
fn prompts_and_texts_of_the_shared_data_are_read() {
    for (name, count) in [
        ("helpful-prompts.jsonl.gz", 10_000),
        ("helpful-sft.jsonl.gz", 10_000),
        ("helpful-test.jsonl", 500),
        ("tldr-test.jsonl.gz", 1_000),
    ] {
        let Some(path) = shared_data("prompts_and_texts", name) else { return };
        let prompts = read_prompts(&path).unwrap();
        let texts = read_texts(&path).unwrap();
        let references = read_references(&path).unwrap();
        assert_eq!([prompts.len(), texts.len(), references.len()], [count; 3], "{name}");
        for ((prompt, text), reference) in prompts.iter().zip(&texts).zip(&references) {
            assert_eq!(prompt.reference.as_ref(), Some(&text.completion));
            assert_eq!(text.prompt.as_ref(), Some(&prompt.prompt));
            assert_eq!(reference.text, text.completion);
        }
    }
}

/// Rows of prompts among which are `bad` lines that are none, each of another kind.
fn lines(good: usize, bad: usize) -> Vec<u8> {
    let kinds: [&[u8]; 5] = [b"{\"prompt\": ", b"[1, 2]", b"{\"text\": 3}", b"\xff\xfe", b"null"];
    let mut lines: Vec<Vec<u8>> = (0..good).map(|i| format!("{{\"prompt\": \"p{i}\"}}").into_bytes()).collect();
    for index in 0..bad {
        lines.insert(1 + index * good / (bad + 1), kinds[index % kinds.len()].to_vec());
    }
    lines.join(&b'\n')
}

#[test]
fn bad_lines_are_skipped_and_counted_up_to_one_in_a_hundred() {
    for (good, bad) in [(99, 1), (3, 1), (495, 5), (99_000, 1_000)] {
        let bytes = lines(good, bad);
        let stopped = RowReader::bytes("data", &bytes).prompts().unwrap_err().to_string();
        assert!(stopped.starts_with("data:2: "), "{stopped}");
        let read = RowReader::bytes("data", &bytes).with_bad_lines(BadLines::Skip).prompts().unwrap();
        assert_eq!((read.rows.len(), read.bad), (good, bad));
        assert_eq!(read.first_bad, Some(stopped));
        assert!(read.rows.iter().enumerate().all(|(id, row)| row.id == id && row.prompt.text() == format!("p{id}")));
    }
    for (good, bad) in [(98, 2), (489, 5), (1, 3)] {
        let bytes = lines(good, bad);
        let error = RowReader::bytes("data", &bytes).with_bad_lines(BadLines::Skip).prompts().unwrap_err();
        assert!(
            matches!(&error, Error::TooManyBad { bad: b, total, .. } if *b == bad && *total == good + bad),
            "{error}"
        );
    }
}

#[test]
fn a_line_too_long_is_skipped_to_its_end() {
    let mut bytes = b"{\"prompt\": \"a\"}\n{\"prompt\": \"".to_vec();
    bytes.extend(std::iter::repeat_n(b'x', 40 << 20));
    bytes.extend(b"\"}\n{\"prompt\": \"b\"}\n");
    let read = RowReader::bytes("data", &bytes).with_bad_lines(BadLines::Skip).prompts().unwrap();
    let kept: Vec<_> = read.rows.iter().map(|row| (row.line, row.prompt.text())).collect();
    assert_eq!(kept, [(1, "a".into()), (3, "b".into())]);
    assert!(read.first_bad.is_some_and(|bad| bad.starts_with("data:2: ") && bad.contains("longer than 16 MiB")));
    let error = RowReader::bytes("data", &bytes).prompts().unwrap_err().to_string();
    assert!(error.starts_with("data:2: "), "{error}");
}

#[test]
fn rows_come_one_at_a_time_and_what_is_made_of_one_can_end_the_reading() {
    let bytes = b"{\"text\":\"a\"}\n{\"text\":\"b\"}\n{\"text\":1}\n";
    let mut seen = Vec::new();
    let mut until = |last: &str, bad_lines| {
        seen.clear();
        let reader = RowReader::bytes("rows", bytes).with_bad_lines(bad_lines);
        let read = reader.each_text(|row| {
            seen.push(row.completion.clone());
            if row.completion == last { Err(Error::Encode("enough".into())) } else { Ok(()) }
        });
        (read.map(|read| read.rows.len()).map_err(|error| error.to_string()), seen.clone())
    };
    for bad_lines in [BadLines::Stop, BadLines::Skip] {
        let (error, seen) = until("a", bad_lines);
        assert!(error.unwrap_err().contains("enough"));
        assert_eq!(seen, ["a"]);
    }
    let (error, seen) = until("z", BadLines::Stop);
    assert!(error.unwrap_err().starts_with("rows:3: "));
    assert_eq!(seen, ["a", "b"]);
    assert_eq!(until("z", BadLines::Skip), (Ok(0), vec!["a".to_owned(), "b".to_owned()]));
}
