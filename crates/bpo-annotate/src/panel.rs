//! Several annotators as one.

use serde::{Deserialize, Serialize};

use crate::{Abstention, Agreement, Annotator, Comparison, Error, Item, Judgement, Statistics, Verdict};

/// How the members of a panel become one annotator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// Verdicts: what more than half of the weight of those that answered prefers, else a tie.
    #[default]
    Majority,
    /// Scores: their mean by weight. All members must give scores, on scales that can be added.
    Mean,
}

/// A panel of annotators, each asked about everything.
///
/// By majority, members that abstain have no vote, and there is a verdict only where more than half of the weight
/// has answered. By mean, one missing score is a missing score.
pub struct Panel {
    members: Vec<Box<dyn Annotator + Send>>,
    /// `[members]`, above 0.
    weights: Vec<f64>,
    combine: Combine,
    agreement: Agreement,
}

impl Panel {
    /// A panel; `weights` are the members', equal where there are none.
    ///
    /// # Errors
    /// [`Error::Config`] for fewer than two members, weights that are not above 0 or not one for each, and a mean of
    /// members that give no scores.
    pub fn new(mut members: Vec<Box<dyn Annotator + Send>>, weights: &[f64], combine: Combine) -> Result<Self, Error> {
        if combine == Combine::Mean
            && let Some(place) = members.iter_mut().position(|member| member.score(&[]).is_none())
        {
            let name = members[place].name();
            return Err(Error::Config(format!("`combine = \"mean\"` needs scores, and {name} only compares")));
        }
        let weights = checked(members.len(), weights)?;
        Ok(Self { agreement: Agreement::of(members.len()), members, weights, combine })
    }

    /// The verdict of most, by weight.
    fn majority(&self, verdicts: &[&Verdict]) -> Verdict {
        let weight = |which: fn(&Verdict) -> bool| -> f64 {
            verdicts.iter().zip(&self.weights).filter(|(verdict, _)| which(verdict)).map(|(_, weight)| weight).sum()
        };
        let all: f64 = self.weights.iter().sum();
        let silent: Vec<String> = verdicts
            .iter()
            .zip(&self.members)
            .filter_map(|(verdict, member)| reason(verdict, member.as_ref()))
            .collect();
        let answered = weight(|verdict| !matches!(verdict, Verdict::Abstain(_)));
        if answered <= all / 2.0 {
            return Verdict::Abstain(Abstention::NoQuorum(silent.join("; ")));
        }
        let (first, second) = (weight(|v| *v == Verdict::First), weight(|v| *v == Verdict::Second));
        match () {
            () if first > answered / 2.0 => Verdict::First,
            () if second > answered / 2.0 => Verdict::Second,
            () => Verdict::Tie,
        }
    }

    /// The judgement of the mean scores.
    fn mean(&self, judgements: &[&Judgement]) -> Judgement {
        let mut sums = [0.0, 0.0];
        for ((judgement, weight), member) in judgements.iter().zip(&self.weights).zip(&self.members) {
            let Some(scores) = judgement.scores else {
                let who = reason(&judgement.verdict, member.as_ref()).unwrap_or_else(|| member.name());
                return Judgement::of(Verdict::Abstain(Abstention::NoQuorum(who)));
            };
            sums = [sums[0] + weight * scores[0], sums[1] + weight * scores[1]];
        }
        let all: f64 = self.weights.iter().sum();
        Judgement::of_scores(sums[0] / all, sums[1] / all)
    }
}

/// One weight above 0 for each of `members`.
pub(crate) fn checked(members: usize, weights: &[f64]) -> Result<Vec<f64>, Error> {
    if members < 2 {
        return Err(Error::Config(format!("a panel has at least two members, not {members}")));
    }
    if weights.is_empty() {
        return Ok(vec![1.0; members]);
    }
    if weights.len() != members || weights.iter().any(|weight| !(weight.is_finite() && *weight > 0.0)) {
        return Err(Error::Config(format!(
            "`weights` of {members} members are {members} numbers above 0, not {weights:?}"
        )));
    }
    Ok(weights.to_vec())
}

fn reason(verdict: &Verdict, member: &dyn Annotator) -> Option<String> {
    match verdict {
        Verdict::Abstain(why) => Some(format!("{}: {why}", member.name())),
        _ => None,
    }
}

impl Annotator for Panel {
    fn name(&self) -> String {
        let names: Vec<String> = self.members.iter().map(|member| member.name()).collect();
        let how = if self.combine == Combine::Mean { "mean" } else { "majority" };
        format!("{how} of {}", names.join(", "))
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let mut given = Vec::with_capacity(self.members.len());
        for member in &mut self.members {
            let judgements = member.compare(batch)?;
            Error::unless_counts_match(|| member.name(), batch.len(), judgements.len())?;
            given.push(judgements);
        }
        let mut combined = Vec::with_capacity(batch.len());
        for place in 0..batch.len() {
            let judgements: Vec<&Judgement> = given.iter().filter_map(|member| member.get(place)).collect();
            let verdicts: Vec<&Verdict> = judgements.iter().map(|judgement| &judgement.verdict).collect();
            self.agreement.count(&verdicts);
            combined.push(match self.combine {
                Combine::Majority => Judgement::of(self.majority(&verdicts)),
                Combine::Mean => self.mean(&judgements),
            });
        }
        Ok(combined)
    }

    fn score(&mut self, items: &[Item]) -> Option<Result<Vec<f64>, Error>> {
        if self.combine == Combine::Majority {
            return None;
        }
        let all: f64 = self.weights.iter().sum();
        let mut sums = vec![0.0; items.len()];
        for (member, weight) in self.members.iter_mut().zip(&self.weights) {
            let scores = match member.score(items)? {
                Ok(scores) => scores,
                Err(error) => return Some(Err(error)),
            };
            if let Err(error) = Error::unless_counts_match(|| member.name(), items.len(), scores.len()) {
                return Some(Err(error));
            }
            sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += weight * score);
        }
        Some(Ok(sums.into_iter().map(|sum| sum / all).collect()))
    }

    fn statistics(&self) -> Statistics {
        Statistics {
            agreement: Some(self.agreement.clone()),
            members: self.members.iter().map(|member| (member.name(), member.statistics())).collect(),
            ..Statistics::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Scored, scorer_from};

    /// Says the same about everything.
    struct Says(Verdict);

    impl Annotator for Says {
        fn name(&self) -> String {
            "says".into()
        }

        fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
            Ok(vec![Judgement::of(self.0.clone()); batch.len()])
        }
    }

    fn pair() -> Comparison {
        Comparison { prompt: "p".into(), first: "a".into(), second: "bb".into() }
    }

    fn says(verdicts: &[Verdict], weights: &[f64]) -> Verdict {
        let member = |verdict: &Verdict| Box::new(Says(verdict.clone())) as Box<dyn Annotator + Send>;
        let mut panel = Panel::new(verdicts.iter().map(member).collect(), weights, Combine::Majority).unwrap();
        panel.compare(&[pair()]).unwrap().remove(0).verdict
    }

    fn scores(name: &str, score: fn(&str) -> f64) -> Box<dyn Annotator + Send> {
        let all = move |items: &[Item]| Ok(items.iter().map(|item| score(&item.response)).collect());
        Box::new(Scored(scorer_from(name, all)))
    }

    #[test]
    fn most_of_those_that_answer_decide_and_nobody_else() {
        use Verdict::{First, Second, Tie};
        let silent = || Verdict::Abstain(Abstention::TimedOut);
        assert_eq!(says(&[First, First, Second], &[]), First);
        assert_eq!(says(&[First, Second], &[]), Tie);
        assert_eq!(says(&[First, Tie, Tie], &[]), Tie);
        assert_eq!(says(&[First, Second, Tie], &[]), Tie);
        assert_eq!(says(&[First, Second], &[1.0, 1.5]), Second);
        assert_eq!(says(&[First, First, silent()], &[]), First);
        assert_eq!(says(&[First, Tie, silent()], &[]), Tie);
        for verdicts in [&[First, silent()][..], &[silent(), silent()], &[First, silent(), silent()]] {
            let Verdict::Abstain(Abstention::NoQuorum(who)) = says(verdicts, &[]) else { panic!("{verdicts:?}") };
            assert!(who.contains("says: no reply in time"), "{who}");
        }
    }

    #[test]
    fn a_mean_is_weighted_and_misses_what_one_member_misses() {
        let length = |text: &str| text.len() as f64;
        let strict = |text: &str| if text == "bb" { f64::NAN } else { 0.0 };
        let mut panel = Panel::new(
            vec![scores("length", length), scores("shorter", |t| -2.0 * t.len() as f64)],
            &[3.0, 1.0],
            Combine::Mean,
        )
        .unwrap();
        let judged = panel.compare(&[pair()]).unwrap().remove(0);
        assert_eq!(judged.scores, Some([0.25, 0.5]));
        assert_eq!(panel.score(&[Item::new("p", "bb")]).unwrap().unwrap(), [0.5]);
        assert_eq!(panel.statistics().agreement.unwrap().rate(), Some(0.0));
        let mut panel =
            Panel::new(vec![scores("length", length), scores("strict", strict)], &[], Combine::Mean).unwrap();
        let judged = panel.compare(&[pair()]).unwrap().remove(0);
        assert!(matches!(&judged.verdict, Verdict::Abstain(Abstention::NoQuorum(who)) if who.starts_with("strict")));
        assert!(panel.score(&[Item::new("p", "bb")]).unwrap().unwrap()[0].is_nan());
    }

    #[test]
    fn a_panel_that_cannot_work_is_refused() {
        let two = || vec![scores("a", |_| 0.0), Box::new(Says(Verdict::Tie)) as Box<dyn Annotator + Send>];
        let refused =
            |members, weights: &[f64], combine| Panel::new(members, weights, combine).err().unwrap().to_string();
        assert!(refused(two(), &[], Combine::Mean).contains("says only compares"));
        assert!(refused(two(), &[1.0], Combine::Majority).contains("2 numbers above 0"));
        assert!(refused(two(), &[1.0, 0.0], Combine::Majority).contains("above 0"));
        assert!(refused(vec![], &[], Combine::Majority).contains("at least two"));
    }
}
