use proptest::prelude::*;

use super::*;

/// What a reply may be made of, to no good purpose.
const PIECES: [&str; 16] = [
    "A",
    "B",
    "tie",
    " ",
    "[[A]]",
    "[[B]]",
    "[[",
    "]]",
    "{\"verdict\":",
    "first",
    "second",
    "not ",
    "Verdict: ",
    "better",
    "\n",
    "7",
];

#[test]
fn what_can_mean_one_thing_is_a_verdict() {
    for (answer, replies) in [
        (
            Answer::First,
            &[
                "A",
                " a \n",
                "**A**",
                "A.",
                "\"A\"",
                "`A`",
                "(A)",
                "Response A",
                "response a.",
                "Verdict: A",
                "Answer: **A**",
                "Final verdict: Response A",
                "**Verdict:** A",
                "first",
                "First.",
                "[[A]]",
                "B is short. [[A]]",
                "[[A]] [[ A ]]",
                "{\"verdict\": \"A\"}",
                "{\"reason\": \"B is wrong\", \"verdict\": \"first\"}",
                "```json\n{\"verdict\":\"A\"}\n```",
                "<think>B? No, [[B]] is wrong.</think>\nA",
                "<think></think>[[A]]",
            ][..],
        ),
        (Answer::Second, &["B", "second", "Response B!", "I like B more than A: [[B]]", "{\"verdict\":\"b\"}"]),
        (Answer::Tie, &["tie", "Tie.", "C", "[[C]]", "[[tie]]", "equal", "neither", "both", "{\"verdict\": \"tie\"}"]),
    ] {
        for reply in replies {
            assert_eq!(verdict(reply), Ok(answer), "{reply}");
        }
    }
}

#[test]
fn what_names_both_or_none_is_no_verdict() {
    for reply in [
        "",
        " ",
        "?",
        "A B",
        "A or B",
        "A and B",
        "A, B",
        "A/B",
        "AB",
        "A is better than B",
        "not A",
        "I cannot tell",
        "A A",
        "[[A]] or [[B]]",
        "[[A]][[B]]",
        "[[AB]]",
        "[[]]",
        "[[A]",
        "[[A]] [[x]]",
        "{\"verdict\": \"A or B\"}",
        "{\"verdict\": 1}",
        "{\"verdict\": null}",
        "{\"winner\": \"A\"}",
        "{}",
        "[\"A\"]",
        "1",
        "2",
        "yes",
        "Response",
        "Answer:",
        "Response C D",
        "<think>A",
        "<think>A [[A]]",
        "As an AI language model",
        "Bravo",
        "All good",
        "the first half is bad",
        "\u{0410}",
        "Ａ",
        "A\u{0}",
        "Verdict Verdict Verdict A",
    ] {
        assert!(matches!(verdict(reply), Err(Abstention::Malformed(_))), "{reply:?}: {:?}", verdict(reply));
    }
}

#[test]
fn a_rating_is_one_number_on_the_scale() {
    for (reply, score) in [
        ("7", 7.0),
        (" 7.5\n", 7.5),
        ("**8**", 8.0),
        ("Rating: 3", 3.0),
        ("Score: 3.", 3.0),
        ("9/10", 9.0),
        ("10 / 10", 10.0),
        ("It is fine. [[6]]", 6.0),
        ("{\"rating\": 4}", 4.0),
        ("{\"score\": 4.5, \"why\": \"9\"}", 4.5),
        ("01", 1.0),
        ("<think>3? 4?</think> 5", 5.0),
    ] {
        assert_eq!(rating(reply, [1.0, 10.0]), Ok(Answer::Score(score)), "{reply}");
    }
    for reply in [
        "",
        "seven",
        "0",
        "11",
        "-3",
        "7 8",
        "7-8",
        "7 out of 10",
        "7/5",
        "9/100",
        "nan",
        "inf",
        "1e1",
        "[[3]] [[4]]",
        "{\"rating\": 11}",
        "{\"rating\": \"7\"}",
        "{\"rating\": null}",
        "{}",
        "1.2.3",
        ".5",
        "7/",
        "/10",
        "٧",
        "7%",
    ] {
        assert!(rating(reply, [1.0, 10.0]).is_err(), "{reply:?}: {:?}", rating(reply, [1.0, 10.0]));
    }
    assert_eq!(rating("-1", [-2.0, 2.0]), Ok(Answer::Score(-1.0)));
}

/// Whether a text, letter case apart, has `name` as a word of its own.
fn names(text: &str, name: &str) -> bool {
    text.to_lowercase().split(|c: char| !c.is_alphanumeric()).any(|word| word == name)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_reply_that_names_both_responses_prefers_one_without_a_mark(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..8)
    ) {
        let reply: String = pieces.concat();
        let both = names(&reply, "a") && names(&reply, "b") || names(&reply, "first") && names(&reply, "second");
        if both && !reply.contains("[[") {
            prop_assert!(!matches!(verdict(&reply), Ok(Answer::First | Answer::Second)), "{}", reply);
        }
        if reply.contains("[[A]]") && reply.contains("[[B]]") {
            prop_assert!(verdict(&reply).is_err(), "{}", reply);
        }
    }

    #[test]
    fn a_verdict_names_what_it_prefers(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..8)
    ) {
        let reply: String = pieces.concat();
        match verdict(&reply) {
            Ok(Answer::First) => prop_assert!(names(&reply, "a") || names(&reply, "first"), "{}", reply),
            Ok(Answer::Second) => prop_assert!(names(&reply, "b") || names(&reply, "second"), "{}", reply),
            Ok(Answer::Score(_)) => prop_assert!(false, "a comparison has no score"),
            Ok(Answer::Tie) | Err(_) => {}
        }
    }

    #[test]
    fn text_of_any_kind_is_a_verdict_only_if_it_is_one_word_a_mark_or_json(reply in ".{0,40}") {
        if verdict(&reply).is_ok() {
            let bare: String = reply.chars().filter(|c| c.is_alphanumeric()).collect();
            let one_word = bare.len() <= 30 && names(&reply, &bare.to_lowercase());
            let led = LEADS.iter().any(|lead| reply.to_lowercase().contains(lead));
            let marked = reply.contains("[[") || reply.contains('{');
            prop_assert!(one_word || led || marked);
        }
    }

    #[test]
    fn swapped_labels_swap_the_verdict(lead in proptest::sample::select(vec!["", "Verdict: ", "Response ", "**", "[["])) {
        let close = match lead { "**" => "**", "[[" => "]]", _ => "" };
        prop_assert_eq!(verdict(&format!("{lead}A{close}")), Ok(Answer::First));
        prop_assert_eq!(verdict(&format!("{lead}B{close}")), Ok(Answer::Second));
    }

    #[test]
    fn a_rating_lies_on_its_scale(reply in "(\\[\\[)?-?[0-9]{1,3}(\\.[0-9]{1,2})?(/10)?(\\]\\])?", low in -5i8..5, span in 1u8..20) {
        let scale = [f64::from(low), f64::from(low) + f64::from(span)];
        if let Ok(Answer::Score(score)) = rating(&reply, scale) {
            prop_assert!(score >= scale[0] && score <= scale[1]);
        }
    }
}
