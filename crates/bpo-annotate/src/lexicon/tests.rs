use proptest::prelude::*;

use super::*;

const SMALL: &[u8] = b"good\t1.9\t0.9\t[2, 1]\r\nbad\t-2.5\r\nno\t-1.2\nfun\t2.3\n:)\t2.0\n";

fn small() -> Lexicon {
    Lexicon::from_bytes("small", SMALL).unwrap()
}

/// The lexicon of VADER itself, where this machine has it.
fn vader(test: &str) -> Option<Lexicon> {
    let path = &std::env::home_dir().unwrap_or_default().join(".cache/bpo-models/vader_lexicon.txt");
    if !path.exists() {
        eprintln!("skipped: {test}: no {}", path.display());
        return None;
    }
    Some(Lexicon::vader(path).unwrap())
}

#[test]
fn both_file_formats_are_read() {
    let lexicon = small();
    assert_eq!(lexicon.len(), 5);
    assert!(lexicon.compound("good") > 0.0);
    assert!(lexicon.compound("bad :(") < 0.0);
    assert_eq!(lexicon.compound("table"), 0.0);
    assert_eq!(lexicon.compound(""), 0.0);
}

#[test]
fn a_line_that_is_not_an_entry_is_named() {
    for (bytes, line) in
        [(&b"good\t1\nbad"[..], 2), (b"good\tone", 1), (b"good\tinf", 1), (b"\n\ngood\tNaN", 3), (b"a\t1\n\xff\t2", 2)]
    {
        match Lexicon::from_bytes("words.txt", bytes) {
            Err(Error::LexiconLine { line: found, .. }) => assert_eq!(found, line),
            other => panic!("{other:?}"),
        }
    }
    let empty = Lexicon::from_bytes("words.txt", b"\n \n").unwrap_err();
    assert_eq!(empty.to_string(), "lexicon words.txt holds no words");
}

#[test]
fn rules_move_a_sentiment_the_right_way() {
    let lexicon = small();
    let ascending = [
        "bad!!",
        "very bad",
        "bad",
        "kinda bad",
        "not good",
        "a table",
        "good but bad fun",
        "kinda good",
        "good",
        "very good",
        "very GOOD",
        "very GOOD!!!",
    ];
    let scores = ascending.map(|text| lexicon.compound(text));
    for (pair, texts) in scores.windows(2).zip(ascending.windows(2)) {
        assert!(pair[0] < pair[1], "{texts:?} scored {pair:?}");
    }
}

#[test]
fn the_score_is_that_of_the_response_alone() {
    let items = [Item::new("bad bad bad", "good"), Item::new("", "good")];
    let scores = small().score(&items).unwrap();
    assert_eq!(scores[0], scores[1]);
}

/// Compounds that `vaderSentiment` 3.3.2 gives; made by `tests/vader.py`.
#[test]
fn compounds_are_those_of_the_reference_implementation() {
    let Some(lexicon) = vader("compounds_are_those_of_the_reference_implementation") else {
        return;
    };
    let golden: Vec<(String, f64)> = serde_json::from_str(include_str!("../../tests/vader.json")).unwrap();
    for (text, expected) in &golden {
        let found = lexicon.compound(text);
        assert!((found - expected).abs() <= 1e-4, "{text}: {found}, not {expected}");
    }
}

proptest! {
    #[test]
    fn any_text_scores_between_minus_one_and_one(text in any::<String>()) {
        let compound = small().compound(&text);
        prop_assert!((-1.0..=1.0).contains(&compound));
    }

    #[test]
    fn words_in_any_order_score_between_minus_one_and_one(
        words in proptest::collection::vec(
            prop_oneof![
                "good|bad|GOOD|fun|no|not|never|so|this|without|doubt|least|at|very|kind|of",
                "but|the|bomb|or|nor|sort|just|enough|to|die|for|[!?]{1,5}",
            ],
            0..12,
        ),
    ) {
        let compound = small().compound(&words.join(" "));
        prop_assert!((-1.0..=1.0).contains(&compound));
    }

    #[test]
    fn any_bytes_are_a_lexicon_or_an_error(bytes in any::<Vec<u8>>()) {
        if let Ok(lexicon) = Lexicon::from_bytes("fuzz", &bytes) {
            prop_assert!(!lexicon.is_empty());
        }
    }
}
