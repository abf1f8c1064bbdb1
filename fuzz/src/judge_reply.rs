//! Replies of judges: an answer is what the line says, and everything else is a short abstention.
use bpo_annotate::{Abstention, Verdict, reply_score, reply_verdict};
use serde_json::Value;

/// No reason for an abstention is longer, in bytes: it repeats the beginning of the reply only.
const LONGEST_REASON: usize = 2_000;

/// A line is a score or a verdict only where it is a JSON object that says so in so many words.
pub fn judge_reply(data: &[u8]) {
    let said = |key: &str| {
        let object: Option<Value> = serde_json::from_str(&String::from_utf8_lossy(data)).ok();
        object.and_then(|object| object.get(key).cloned())
    };
    match reply_score(data) {
        Ok(score) => {
            assert!(score.is_finite());
            // Python's NaN and Infinity elsewhere in the line make it no JSON for this reader.
            assert!(said("score").is_none_or(|value| value.as_f64() == Some(score)), "{score}");
        }
        Err(why) => told(&why),
    }
    match reply_verdict(data) {
        Ok(verdict) => {
            let word = match verdict {
                Verdict::First => "first",
                Verdict::Second => "second",
                Verdict::Tie => "tie",
                Verdict::Abstain(_) => panic!("an abstention is no answer"),
            };
            assert!(said("verdict").is_none_or(|value| value == word), "{word}");
            assert!(String::from_utf8_lossy(data).contains("verdict") || data.contains(&b'\\'));
        }
        Err(why) => told(&why),
    }
}

fn told(why: &Abstention) {
    let message = why.to_string();
    assert!(message.len() <= LONGEST_REASON, "{} bytes", message.len());
}
