//! Verdicts and nothing else: a lexicon, a judge of your own, and a panel of both.
//!
//!     cargo run --release -p bpo-annotate --example judge_pairs
#![allow(clippy::print_stdout, reason = "an example tells what it does")]

use bpo_annotate::{
    Abstention, Annotator, BothOrders, Comparison, Error, Judgement, Lexicon, Scored, TieIdentical, Verdict,
};

/// Prefers the response that answers the question's last word.
struct Echo;

impl Annotator for Echo {
    fn name(&self) -> String {
        "echo".into()
    }

    fn compare(&mut self, batch: &[Comparison]) -> Result<Vec<Judgement>, Error> {
        let judge = |asked: &Comparison| {
            let Some(word) = asked.prompt.trim_end_matches('?').split_whitespace().last() else {
                return Verdict::Abstain(Abstention::Failed("there is no question".into()));
            };
            let says = |text: &str| f64::from(u8::from(text.contains(word)));
            Verdict::of_scores(says(&asked.first), says(&asked.second))
        };
        Ok(batch.iter().map(|asked| Judgement::of(judge(asked))).collect())
    }
}

fn main() -> Result<(), Error> {
    let questions = [
        Comparison {
            prompt: "How was the film?".into(),
            first: "Awful.".into(),
            second: "The film was wonderful!".into(),
        },
        Comparison { prompt: "And the sea?".into(), first: "The sea was cold.".into(), second: "Nice.".into() },
        Comparison { prompt: "And the sea?".into(), first: "Same.".into(), second: "Same.".into() },
    ];
    let lexicon = Lexicon::from_bytes("mine", b"wonderful\t2.7\nnice\t1.8\nawful\t-2.0\ncold\t-0.5\n")?;
    // Equal responses are ties without a question; a judge asked in both orders has to agree with itself.
    let mut judges: [Box<dyn Annotator>; 2] =
        [Box::new(TieIdentical(Scored(lexicon))), Box::new(TieIdentical(BothOrders::new(Echo)))];
    for judge in &mut judges {
        let verdicts = judge.compare(&questions)?;
        for (asked, judged) in questions.iter().zip(&verdicts) {
            println!("{:<28} {:<20} {:?}", judge.name(), asked.prompt, judged.verdict);
        }
        assert_eq!(verdicts[0].verdict, Verdict::Second);
        assert_eq!(verdicts[2].verdict, Verdict::Tie);
    }
    Ok(())
}
