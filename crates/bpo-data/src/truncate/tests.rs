use proptest::prelude::*;

use super::*;

fn limits(prompt: usize, total: usize, truncation: Truncation) -> Limits {
    Limits { max_prompt_length: Some(prompt), max_length: Some(total), truncation }
}

fn ids(n: u32) -> Vec<u32> {
    (0..n).collect()
}

#[test]
fn policies_are_spelled_in_snake_case_and_drop_is_the_default() {
    let names = ["drop", "left_prompt", "right_completion", "error"];
    let policies = [Truncation::Drop, Truncation::LeftPrompt, Truncation::RightCompletion, Truncation::Error];
    for (name, policy) in names.iter().zip(policies) {
        assert_eq!(serde_json::to_value(policy).unwrap(), *name);
    }
    assert_eq!(serde_json::from_str::<Limits>("{}").unwrap(), Limits::default());
    assert_eq!(Truncation::default(), Truncation::Drop);
}

#[test]
fn a_prompt_over_its_limit_follows_the_policy() {
    let fit = |policy, bos| fit_prompt(ids(5), &limits(3, 100, policy), bos);
    assert_eq!(fit(Truncation::Drop, false).unwrap(), Fit::Dropped(DropReason::PromptTooLong));
    assert_eq!(fit(Truncation::LeftPrompt, false).unwrap(), Fit::Truncated(vec![2, 3, 4]));
    assert_eq!(fit(Truncation::LeftPrompt, true).unwrap(), Fit::Truncated(vec![0, 3, 4]));
    let kept = fit(Truncation::RightCompletion, false).unwrap();
    assert_eq!(kept, Fit::Dropped(DropReason::PromptTooLong));
    let error = fit(Truncation::Error, false).unwrap_err();
    assert_eq!(error.to_string(), "prompt too long: 5 tokens, at most 3 allowed");
}

#[test]
fn a_pair_over_the_total_follows_the_policy() {
    let fit = |policy, bos| fit_pair(ids(4), ids(4), &limits(9, 6, policy), bos);
    assert_eq!(fit(Truncation::Drop, false).unwrap(), Fit::Dropped(DropReason::TooLong));
    assert_eq!(fit(Truncation::LeftPrompt, true).unwrap(), Fit::Truncated((vec![0, 3], ids(4))));
    assert_eq!(fit(Truncation::RightCompletion, true).unwrap(), Fit::Truncated((ids(4), ids(2))));
    assert!(matches!(
        fit(Truncation::Error, true),
        Err(Error::OverLimit { reason: DropReason::TooLong, length: 8, limit: 6 })
    ));
}

#[test]
fn completions_of_one_group_keep_the_same_prompt() {
    let fit = |policy| {
        let completions = vec![ids(4), ids(1)];
        fit_group(ids(4), completions, &limits(9, 6, policy), true).unwrap()
    };
    let cut = Fit::Truncated((vec![0, 3], vec![ids(4), ids(1)]));
    assert_eq!(fit(Truncation::LeftPrompt), cut);
    assert_eq!(fit(Truncation::RightCompletion), Fit::Truncated((ids(4), vec![ids(2), ids(1)])));
    assert_eq!(fit(Truncation::Drop), Fit::Dropped(DropReason::TooLong));
    let none = fit_group(ids(4), vec![], &Limits::default(), true).unwrap();
    assert_eq!(none, Fit::Dropped(DropReason::CompletionEmpty));
}

#[test]
fn a_prompt_that_fills_the_context_is_too_long() {
    for (length, fits) in [(6, true), (7, true), (8, false), (9, false), (10, false)] {
        let limits = Limits { max_length: Some(8), ..Limits::default() };
        let fit = fit_prompt(ids(length), &limits, false).unwrap();
        assert_eq!(fit.into_kept().is_some(), fits, "length {length}");
    }
}

#[test]
fn empty_parts_are_dropped_by_name() {
    let none = Limits::default();
    assert_eq!(fit_prompt(vec![], &none, true).unwrap(), Fit::Dropped(DropReason::PromptEmpty));
    let pair = fit_pair(ids(3), vec![], &none, true).unwrap();
    assert_eq!(pair, Fit::Dropped(DropReason::CompletionEmpty));
}

#[test]
fn counts_tell_what_happened() {
    let mut counts = Counts::default();
    assert_eq!(counts.to_string(), "0 truncated, 0 dropped");
    assert_eq!(counts.keep(Fit::Kept(1)), Some(1));
    assert_eq!(counts.keep(Fit::Truncated(2)), Some(2));
    assert_eq!(counts.keep(Fit::<i32>::Dropped(DropReason::TooLong)), None);
    counts.record(DropReason::PromptTooLong);
    let expected = "1 truncated, 2 dropped (prompt too long: 1, prompt and completion too long: 1)";
    assert_eq!(counts.to_string(), expected);
    assert_eq!(counts.total_dropped(), 2);
}

fn policy() -> impl Strategy<Value = Truncation> {
    prop_oneof![Just(Truncation::Drop), Just(Truncation::LeftPrompt), Just(Truncation::RightCompletion)]
}

proptest! {
    #[test]
    fn a_kept_row_is_within_its_limits_and_nothing_of_it_is_empty(
        prompt in 0_u32..20, completion in 0_u32..20,
        max_prompt in prop::option::of(0_usize..20), max_total in prop::option::of(0_usize..30),
        truncation in policy(), bos: bool,
    ) {
        let limits = Limits { max_prompt_length: max_prompt, max_length: max_total, truncation };
        let (before, after) = (ids(prompt), ids(completion));
        let fit = fit_pair(before.clone(), after.clone(), &limits, bos).unwrap();
        let is_cut = matches!(fit, Fit::Truncated(_));
        if let Some((p, c)) = fit.into_kept() {
            prop_assert!(!p.is_empty() && !c.is_empty());
            prop_assert!(max_prompt.is_none_or(|limit| p.len() <= limit));
            prop_assert!(max_total.is_none_or(|limit| p.len() + c.len() <= limit));
            prop_assert_eq!(is_cut, (&p, &c) != (&before, &after));
            prop_assert!(after.starts_with(&c));
            let tail = if bos { &p[1..] } else { &p[..] };
            prop_assert!(before.ends_with(tail));
            prop_assert!(!bos || p[0] == before[0]);
        }
    }
}
