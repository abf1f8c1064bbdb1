//! What an annotator did: how often it was asked, what it cost, and how far it can be trusted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Agreement, PositionBias, ShownFirst};

/// What is known of an annotator since it was built. Empty for one that has nothing to tell, as a lexicon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Questions that a service answered or failed to answer.
    pub asked: u64,
    /// Questions that were answered by the cache instead.
    pub cached: u64,
    /// Tries beyond the first.
    pub retries: u64,
    /// Tokens the service counted, prompts and replies; estimated at four bytes each where it counts none.
    pub tokens: u64,
    /// Questions without a verdict or score, by reason.
    pub abstained: BTreeMap<String, u64>,
    /// What asking in both orders showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub both_orders: Option<PositionBias>,
    /// What asking in a random order showed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown_first: Option<ShownFirst>,
    /// How far the members of a panel agree.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agreement: Option<Agreement>,
    /// The members of a panel, by name.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub members: Vec<(String, Statistics)>,
}

impl Statistics {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The same in words, a line each.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.asked + self.cached > 0 {
            let Self { asked, cached, retries, tokens, .. } = self;
            let abstained: Vec<String> = self.abstained.iter().map(|(why, count)| format!("{count} {why}")).collect();
            let without = if abstained.is_empty() { "0".to_owned() } else { abstained.join(", ") };
            lines.push(format!(
                "questions: {asked} asked, {cached} answered by the cache, {retries} retries, {tokens} tokens; \
                 without an answer: {without}"
            ));
        }
        lines.extend(self.both_orders.map(|bias| {
            let PositionBias { asked, disagreed, first_preferred } = bias;
            format!(
                "both orders: {disagreed} of {asked} verdicts changed with the order, {first_preferred} for what was \
                 shown first"
            )
        }));
        lines.extend(self.shown_first.and_then(|shown| {
            let ShownFirst { decided, won } = shown;
            let (low, high) = shown.interval()?;
            Some(format!(
                "random order: what was shown first won {won} of {decided} ({:.0} %, 95 % interval {:.0} to {:.0} %)",
                100.0 * won as f64 / decided as f64,
                100.0 * low,
                100.0 * high
            ))
        }));
        lines.extend(self.agreement.as_ref().map(Agreement::line));
        for (name, member) in &self.members {
            lines.extend(member.lines().into_iter().map(|line| format!("{name}: {line}")));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_of_an_annotator_that_did_nothing() {
        assert!(Statistics::default().is_empty() && Statistics::default().lines().is_empty());
    }

    #[test]
    fn a_member_is_named_in_its_lines() {
        let asked =
            Statistics { asked: 3, tokens: 70, abstained: [("timed_out".into(), 1)].into(), ..Default::default() };
        let panel = Statistics { members: vec![("judge".into(), asked)], ..Default::default() };
        let expected = "judge: questions: 3 asked, 0 answered by the cache, 0 retries, 70 tokens; without an answer: \
                        1 timed_out";
        assert_eq!(panel.lines(), [expected]);
        let json = serde_json::to_string(&panel).unwrap();
        assert_eq!(serde_json::from_str::<Statistics>(&json).unwrap(), panel);
    }
}
