//! What a run leaves behind.
use super::{Run, evaluations::Evaluations};
use crate::{CurvePoint, Error, Evaluation, Observer, Report, export::export};

impl Run<'_> {
    pub(super) fn evaluations(&mut self) -> Evaluations<'_> {
        Evaluations {
            recipe: self.recipe,
            schedule: self.schedule,
            dir: self.dir,
            base: &self.base,
            tokenizer: &self.tokenizer,
            annotator: self.annotator.as_mut(),
            journal: &mut self.journal,
            prompts: &self.eval,
            initial: &self.initial,
            state: &self.state,
            total: self.total,
        }
    }

    pub(super) fn finish(
        &mut self,
        before: Evaluation,
        (after, end): (Evaluation, CurvePoint),
        observer: &mut dyn Observer,
    ) -> Result<Report, Error> {
        let curve = self.evaluations().curve(&before, end, observer)?;
        let pairs = self.first_pairs()?;
        self.evaluations().record_contrast(&before, pairs)?;
        let (dir, policy) = (self.dir, self.state.ensemble.policy()?.policy);
        let output = export(dir, "", &policy, &self.base, &self.base_name, &self.companions)?;
        if self.state.ensemble.members.len() > 1 {
            for (index, member) in self.state.ensemble.members.iter().enumerate() {
                let folder = format!("members/{index}/");
                export(dir, &folder, &member.policy, &self.base, &self.base_name, &self.companions)?;
            }
        }
        self.evaluations().report([&before, &after], curve, output)
    }
}
