//! Ranked completions, as NeMo has them: `context` and `completions` of `rank` and `completion`, 0 the best.

use serde_json::Value;

use super::Object;
use super::fields::{field, wrong};
use super::prompt::{completion, explicit};
use crate::Prompt;

/// Why a row is skipped: no completion is better than another.
pub(crate) const UNRANKED: &str = "no completion is ranked above another";

/// A prompt and its completions, the best first.
pub(super) struct Ranked {
    pub prompt: Prompt,
    pub completions: Vec<(f64, String)>,
}

/// The ranked completions of a row; `None` if it has another schema.
pub(super) fn ranked(row: &Object) -> Result<Option<Ranked>, String> {
    let (Some(context), Some(Value::Array(list))) = (field(row, "context"), field(row, "completions")) else {
        return Ok(None);
    };
    if list.is_empty() {
        return Err("`completions` is empty".to_owned());
    }
    // A last assistant turn of the context is context: the completions are elsewhere.
    let (mut prompt, answer) = explicit("context", context)?;
    if let (Prompt::Messages(turns), Some(answer)) = (&mut prompt, answer) {
        turns.push(crate::Message::new("assistant", answer));
    }
    let mut completions = list.iter().map(one).collect::<Result<Vec<_>, _>>()?;
    completions.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    Ok(Some(Ranked { prompt, completions }))
}

fn one(entry: &Value) -> Result<(f64, String), String> {
    let Value::Object(entry) = entry else {
        return Err(wrong("completions", "a list of objects with `rank` and `completion`", entry));
    };
    let rank = field(entry, "rank").ok_or("a completion has no `rank`")?;
    let rank = rank.as_f64().filter(|rank| rank.is_finite()).ok_or_else(|| wrong("rank", "a number", rank))?;
    let text = field(entry, "completion").ok_or("an entry of `completions` has no `completion`")?;
    Ok((rank, completion("completion", text)?))
}

impl Ranked {
    /// The best and the worst completion, unless they are ranked alike.
    pub fn extremes(mut self) -> Result<(Prompt, String, String), &'static str> {
        match (self.completions.pop(), self.completions.drain(..).next()) {
            (Some((worst, rejected)), Some((best, chosen))) if best < worst => Ok((self.prompt, chosen, rejected)),
            _ => Err(UNRANKED),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{completions, preference, prompt, text};
    use super::*;
    use crate::Message;

    fn row(ranks: &[(Value, &str)]) -> Object {
        let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
        let list: Vec<Value> =
            ranks.iter().map(|(rank, said)| json!({"rank": rank, "completion": turn("assistant", said)})).collect();
        json!({"context": turn("user", "q"), "completions": list}).as_object().unwrap().clone()
    }

    #[test]
    fn the_best_and_the_worst_rank_make_the_pair_in_whatever_order_they_come() {
        let asked = Prompt::Messages(vec![Message::new("user", "q")]);
        let row = row(&[(json!(1), "b"), (json!(2), "c"), (json!(0), "a")]);
        let pair = preference(&row).unwrap().unwrap();
        assert_eq!((pair.prompt, pair.chosen.as_str(), pair.rejected.as_str()), (asked.clone(), "a", "c"));
        assert_eq!(prompt(&row).unwrap(), (asked.clone(), Some("a".to_owned())));
        assert_eq!(text(&row).unwrap(), (Some(asked.clone()), "a".to_owned()));
        let (found, given, all) = completions(&row).unwrap();
        assert_eq!((found, given, all), (asked, row["context"].clone(), vec!["a".to_owned(), "b".into(), "c".into()]));
    }

    #[test]
    fn completions_of_one_rank_are_skipped_and_counted() {
        for ranks in [vec![(json!(0), "a")], vec![(json!(1), "a"), (json!(1), "b")]] {
            assert_eq!(preference(&row(&ranks)), Ok(Err(UNRANKED)));
        }
    }

    #[test]
    fn a_malformed_ranking_is_refused_and_never_repeated() {
        for (value, word) in [
            (json!({"context": "q", "completions": []}), "is empty"),
            (json!({"context": "q", "completions": ["SECRET"]}), "`rank` and `completion`"),
            (json!({"context": "q", "completions": [{"completion": "SECRET"}]}), "no `rank`"),
            (json!({"context": "q", "completions": [{"rank": "SECRET", "completion": "x"}]}), "`rank` must be"),
            (json!({"context": "q", "completions": [{"rank": 0}]}), "no `completion`"),
            (json!({"context": 1, "completions": [{"rank": 0, "completion": "SECRET"}]}), "`context` must be"),
        ] {
            let reason = preference(value.as_object().unwrap()).unwrap_err();
            assert!(reason.contains(word) && !reason.contains("SECRET"), "{reason}");
        }
    }
}
