//! The LoRA ensemble: members trained on the same pairs against one reference; the policy is their merge.
//! Xu et al. 2024, arXiv:2406.12168, section 4.4. One member is the ordinary case.
use bpo_data::Group;
use bpo_model::{Adapter, AdapterMerge, Decoder, adapter_spread, merge_adapters};

use crate::{
    AdamW, AdamWConfig, Drawn, Error, Gradients, TrainPrompt, Trainable, evaluate::pack, optimizer, sequence_logps,
};

/// One trained policy and its own optimiser.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub policy: Trainable,
    pub optimizer: AdamW,
}

impl Member {
    /// Before its first update.
    pub fn new(policy: Trainable, config: AdamWConfig) -> Self {
        Self { policy, optimizer: AdamW::new(config) }
    }

    /// The member after one update, and the gradients' global norm.
    ///
    /// # Errors
    /// What is not finite, in words, with the tensor's name.
    pub fn updated(&self, gradients: &Gradients, rate: f64) -> Result<(Self, f64), String> {
        let norm = gradients.norm();
        if !norm.is_finite() {
            return Err(gradients
                .first_not_finite()
                .map_or("the gradient norm".into(), |of| format!("the gradient of {of}")));
        }
        let mut optimizer = self.optimizer.clone();
        let updated = optimizer.step(self.policy.parameters(), gradients, norm, rate);
        if !optimizer::norm(&updated).is_finite() {
            let name = optimizer::first_not_finite(updated.iter()).unwrap_or("a weight");
            return Err(format!("{name} after the update"));
        }
        Ok((Self { policy: self.policy.with_parameters(updated), optimizer }, norm))
    }
}

/// The members of a run, at least one.
#[derive(Debug, Clone)]
pub(crate) struct Ensemble {
    pub members: Vec<Member>,
    merge: AdapterMerge,
}

/// A merge of the members, and how far it is from the exact mean.
#[derive(Debug, Clone)]
pub(crate) struct MergedPolicy {
    pub policy: Trainable,
    /// Relative error of the merge; see [`bpo_model::Merged::error`].
    pub error: f64,
}

impl Ensemble {
    pub fn new(members: Vec<Member>, merge: AdapterMerge) -> Self {
        Self { members, merge }
    }

    /// The policy: what samples, is evaluated and is written. Of one member, the member itself.
    pub fn policy(&self) -> Result<MergedPolicy, Error> {
        let adapters = self.adapters();
        match (self.members.as_slice(), adapters.len()) {
            ([single], _) => Ok(MergedPolicy { policy: single.policy.clone(), error: 0.0 }),
            (members, adapted) if adapted == members.len() => {
                let weights = vec![1.0 / adapted as f64; adapted];
                let merged = merge_adapters(&adapters, &weights, self.merge)?;
                Ok(MergedPolicy { policy: Trainable::Lora(merged.adapter), error: merged.error })
            }
            _ => Err(Error::Recipe("ensemble_size needs use_peft = true".into())),
        }
    }

    /// How far the members' weights are apart, relative to their mean; `None` of a single member and while the
    /// mean is zero.
    pub fn spread(&self) -> Result<Option<f64>, Error> {
        let adapters = self.adapters();
        if adapters.len() < 2 {
            return Ok(None);
        }
        Ok(Some(adapter_spread(&adapters)?).filter(|spread| spread.is_finite()))
    }

    fn adapters(&self) -> Vec<&Adapter> {
        self.members.iter().filter_map(|member| member.policy.adapter()).collect()
    }

    /// Implicit rewards `β·(log π_k − log π_behaviour)` of all of a prompt's sampled candidates under every member,
    /// `[prompts][members][candidates]`.
    pub fn rewards(
        &self,
        base: &Decoder,
        prompts: &[&TrainPrompt],
        drawn: &[Drawn],
        beta: f64,
        pad: u32,
    ) -> Result<Vec<Vec<Vec<f64>>>, Error> {
        let groups: Vec<Group<'_>> = prompts
            .iter()
            .zip(drawn)
            .map(|(prompt, drawn)| Group {
                prompt: &prompt.ids,
                completions: drawn.samples.iter().map(|sample| sample.tokens.as_slice()).collect(),
            })
            .collect();
        let layout = pack(base, &groups, pad)?;
        let scored: Result<Vec<Vec<f32>>, Error> =
            self.members.iter().map(|member| Ok(sequence_logps(&member.policy.model(base)?, &layout)?.sums)).collect();
        let scored = scored?;
        let mut next = 0;
        let mut of_prompt = |drawn: &Drawn| {
            let first = next;
            next += drawn.samples.len();
            let reward = |sums: &[f32], place: usize| {
                beta * (f64::from(sums[first + place]) - f64::from(drawn.samples[place].logp()))
            };
            let of_member = |sums: &Vec<f32>| (0..drawn.samples.len()).map(|place| reward(sums, place)).collect();
            scored.iter().map(of_member).collect()
        };
        Ok(drawn.iter().map(&mut of_prompt).collect())
    }

    /// One update of every member. It is made on copies (tensors are shared): what is not finite never becomes the
    /// state, and is named instead. Returns the gradients' norms.
    pub fn update(&mut self, gradients: &[Gradients], rate: f64) -> Result<Vec<f64>, String> {
        let updated: Result<Vec<(Member, f64)>, _> =
            self.members.iter().zip(gradients).map(|(member, gradients)| member.updated(gradients, rate)).collect();
        let (members, norms) = updated?.into_iter().unzip();
        self.members = members;
        Ok(norms)
    }
}
