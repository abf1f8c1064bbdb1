//! What no type can check: domains of numbers, and keys that would have no effect.
use bpo_model::AdapterMerge;
use bpo_sampler::{PairSelection, Sampling};

use super::{CollectionPhases, EvalStrategy, FDivergenceType, Recipe, Reference};
use crate::Error;

impl Recipe {
    /// Checks what no type can.
    ///
    /// # Errors
    /// [`Error::Recipe`] naming the key.
    pub fn validate(&self) -> Result<(), Error> {
        self.objective()?;
        self.sampling(self.temperature).validate()?;
        self.sampling(self.eval_temperature).validate()?;
        let positive = [
            ("per_device_train_batch_size", self.per_device_train_batch_size),
            ("gradient_accumulation_steps", self.gradient_accumulation_steps),
            ("per_device_eval_batch_size", self.per_device_eval_batch_size),
            ("max_new_tokens", self.max_new_tokens),
            ("max_prompt_length", self.max_prompt_length),
            ("lora_r", self.lora_r),
            ("ensemble_size", self.ensemble_size),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(Error::Recipe(format!("{key} must be at least 1")));
        }
        if self.min_new_tokens > self.max_new_tokens {
            let (min, max) = (self.min_new_tokens, self.max_new_tokens);
            return Err(Error::Recipe(format!("min_new_tokens = {min} must not be above max_new_tokens = {max}")));
        }
        if self.samples_per_prompt < 2 && self.pairs.is_none() {
            return Err(Error::Recipe(format!("samples_per_prompt = {}: a pair needs 2", self.samples_per_prompt)));
        }
        if self.max_steps == 0 && self.num_train_epochs <= 0.0 {
            return Err(Error::Recipe("max_steps and num_train_epochs are both 0: nothing to do".into()));
        }
        if let Some(penalty) = self.missing_eos_penalty.filter(|penalty| !penalty.is_finite()) {
            return Err(Error::Recipe(format!("missing_eos_penalty = {penalty} must be a finite number")));
        }
        if self.learning_rate > 1.0 {
            let rate = self.learning_rate;
            return Err(Error::Recipe(format!("learning_rate = {rate}: above 1 every weight is lost in one step")));
        }
        if self.temperature == 0.0 {
            return Err(Error::Recipe("temperature = 0 samples the same completion twice: no pair".into()));
        }
        if self.save_steps == 0 {
            return Err(Error::Recipe("save_steps must be at least 1".into()));
        }
        if !self.use_peft && self.adapter.is_some() {
            return Err(Error::Recipe("adapter has no effect with use_peft = false".into()));
        }
        self.check_numbers()?;
        self.check_procedure()?;
        self.check_sampler()?;
        self.refuse_unused()
    }

    /// What a server that samples can do: it is the behaviour only where its adapter can follow the behaviour's.
    fn check_sampler(&self) -> Result<(), Error> {
        let refuse = |reason: String| Err(Error::Recipe(reason));
        let Some(sampler) = &self.sampler else { return Ok(()) };
        sampler.check()?;
        if !self.records_steps() {
            return refuse("sampler has no effect with pairs: nothing is sampled".into());
        }
        if sampler.publishes() && !self.use_peft {
            return refuse("sampler.publish_dir needs use_peft = true: what is published is an adapter".into());
        }
        if !sampler.publishes() && self.collection_phases != CollectionPhases::Count(1) {
            let phases = match self.collection_phases {
                CollectionPhases::Count(count) => count.to_string(),
                CollectionPhases::EveryStep => "\"T\"".to_owned(),
            };
            return refuse(format!(
                "collection_phases = {phases} refreshes the behaviour, and the server would go on sampling from the start: \
                 set sampler.publish_dir where the server can load adapters (format vllm, sglang, transformers), or \
                 collection_phases = 1"
            ));
        }
        if sampler.trust_logps && self.sampling(self.temperature) != Sampling::default() {
            return refuse(
                "sampler.trust_logps needs temperature = 1, top_k = 0, top_p = 1 and min_p = 0: some servers report \
                 log-probs after these"
                    .into(),
            );
        }
        Ok(())
    }

    /// Combinations that no procedure has.
    fn check_procedure(&self) -> Result<(), Error> {
        let refuse = |reason: &str| Err(Error::Recipe(reason.into()));
        let ucb = self.pair_selection.needs_members();
        let offline = self.pairs.is_some();
        if self.ensemble_size > 1 && !self.use_peft {
            return refuse("ensemble_size needs use_peft = true: members are LoRA adapters on one base");
        }
        let adapters = self.adapters();
        if adapters.iter().enumerate().any(|(index, adapter)| adapters[..index].contains(adapter)) {
            return refuse("adapter names one folder twice: members that start equal stay equal");
        }
        if ucb && self.ensemble_size < 2 {
            return refuse("pair_selection by members needs ensemble_size of at least 2");
        }
        if self.reference == Reference::Ema && matches!(self.ensemble_merge, AdapterMerge::Svd(_)) {
            return refuse(
                "reference = \"ema\" averages factors, and those of ensemble_merge = \"svd:R\" turn with every merge",
            );
        }
        if (offline || self.selm_alpha.is_some()) && self.pair_selection != PairSelection::FirstTwo {
            return refuse("pair_selection has no effect: with pairs or selm_alpha the candidates are given");
        }
        if offline && self.regenerate_fraction < 1.0 {
            return refuse("regenerate_fraction has no effect with pairs: nothing is sampled");
        }
        if offline && self.optune_beta2.is_some() && self.selm_alpha.is_none() {
            return refuse("optune_beta2 needs scores, and the pairs of a file have none");
        }
        if self.regenerate_fraction < 1.0 && (self.selm_alpha.is_some() || ucb) {
            return refuse("regenerate_fraction cannot be combined with selm_alpha or a selection by members");
        }
        if self.pair_selection == PairSelection::UcbMeanUcb && self.samples_per_prompt < 3 {
            return refuse(
                "pair_selection ucb_mean_ucb needs samples_per_prompt of at least 3: of two it picks one twice",
            );
        }
        let has_loss = |names: &[&str]| self.loss_type.as_slice().iter().any(|loss| names.contains(&loss.as_str()));
        let weighs = self.use_weighting || self.optune_beta2.is_some();
        if weighs && has_loss(&["aot", "aot_unpaired"]) {
            return refuse("use_weighting and optune_beta2 weigh pairs, and the losses of aot are not by pair");
        }
        if self.ld_alpha.is_some() && has_loss(&["sft"]) {
            return refuse("ld_alpha is for losses of log-ratios, not for sft");
        }
        if self.ld_alpha.is_some() && self.selm_alpha.is_some() {
            return refuse("ld_alpha cannot be combined with selm_alpha");
        }
        if self.use_weighting && self.loss_type.as_slice().iter().all(|loss| loss == "sft") {
            return refuse("use_weighting needs a loss of pairs");
        }
        Ok(())
    }

    /// Keys that need scores, when the annotator gives none.
    pub(crate) fn check_annotator(&self, gives_scores: bool) -> Result<(), Error> {
        let selection = self.pair_selection;
        let keys = [
            ("missing_eos_penalty", self.missing_eos_penalty.is_some()),
            ("optune_beta2", self.optune_beta2.is_some()),
            ("regenerate_fraction", self.regenerate_fraction < 1.0),
            ("pair_selection", selection.needs_scores() && selection != PairSelection::BestWorst),
        ];
        match keys.into_iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) if !gives_scores => {
                Err(Error::Recipe(format!("{key} needs an annotator that gives scores: this one only compares")))
            }
            _ => Ok(()),
        }
    }

    /// A key that is set and read by nothing is a misunderstanding, not a preference.
    fn refuse_unused(&self) -> Result<(), Error> {
        let default = Self::default();
        let has_loss = |name: &str| self.loss_type.as_slice().iter().any(|loss| loss == name);
        let ema = self.reference == Reference::Ema;
        let alpha = self.f_divergence_type == FDivergenceType::AlphaDivergence;
        let samples = self.pairs.is_none();
        let judges = samples || self.selm_alpha.is_some();
        let keys = [
            ("discopop_tau", self.discopop_tau != default.discopop_tau, has_loss("discopop"), "loss_type discopop"),
            (
                "f_alpha_divergence_coef",
                self.f_alpha_divergence_coef != default.f_alpha_divergence_coef,
                alpha,
                "f_divergence_type = \"alpha_divergence\"",
            ),
            ("ipo_length_norm", !self.ipo_length_norm, has_loss("ipo"), "loss_type ipo"),
            (
                "ref_model_mixup_alpha",
                self.ref_model_mixup_alpha != default.ref_model_mixup_alpha,
                ema,
                "reference = \"ema\"",
            ),
            (
                "ref_model_sync_steps",
                self.ref_model_sync_steps != default.ref_model_sync_steps,
                ema,
                "reference = \"ema\"",
            ),
            (
                "ensemble_merge",
                self.ensemble_merge != default.ensemble_merge,
                self.ensemble_size > 1,
                "ensemble_size of at least 2",
            ),
            (
                "ucb_gamma",
                self.ucb_gamma != default.ucb_gamma,
                self.pair_selection.needs_members(),
                "a pair_selection by members",
            ),
            ("samples_per_prompt", self.samples_per_prompt != default.samples_per_prompt, samples, "no pairs"),
            ("missing_eos_penalty", self.missing_eos_penalty.is_some(), judges, "completions that are judged"),
            ("ties", self.ties != default.ties, judges, "completions that are judged"),
            ("temperature", self.temperature != default.temperature, samples, "no pairs"),
            (
                "eval_strategy",
                self.eval_strategy != default.eval_strategy,
                self.eval_size > 0,
                "eval_size of at least 1",
            ),
            (
                "eval_temperature",
                self.eval_temperature != default.eval_temperature,
                self.eval_size > 0,
                "eval_size of at least 1",
            ),
            (
                "eval_steps",
                self.eval_steps != default.eval_steps,
                self.eval_strategy == EvalStrategy::Steps,
                "eval_strategy = \"steps\"",
            ),
        ];
        match keys.into_iter().find(|(_, is_set, is_read, _)| *is_set && !is_read) {
            Some((key, _, _, needs)) => Err(Error::Recipe(format!("{key} has no effect: it needs {needs}"))),
            None if self.samples_per_prompt > 2
                && self.pair_selection == PairSelection::FirstTwo
                && self.selm_alpha.is_none() =>
            {
                Err(Error::Recipe("samples_per_prompt above 2 needs a pair_selection, such as best_worst".into()))
            }
            None => Ok(()),
        }
    }

    pub(super) fn check_numbers(&self) -> Result<(), Error> {
        let at_least_zero = [
            ("learning_rate", self.learning_rate),
            ("weight_decay", self.weight_decay),
            ("max_grad_norm", self.max_grad_norm),
            ("num_train_epochs", self.num_train_epochs),
            ("adam_epsilon", self.adam_epsilon),
            ("ucb_gamma", self.ucb_gamma),
            ("optune_beta2", self.optune_beta2.unwrap_or(0.0)),
            ("selm_alpha", self.selm_alpha.unwrap_or(0.0)),
            ("ld_alpha", self.ld_alpha.unwrap_or(0.0)),
        ];
        if let Some((key, value)) = at_least_zero.into_iter().find(|(_, v)| !(v.is_finite() && *v >= 0.0)) {
            return Err(Error::Recipe(format!("{key} = {value} must be a finite number, 0 or above")));
        }
        let shares = [
            ("lora_dropout", self.lora_dropout),
            ("warmup_ratio", self.warmup_ratio),
            ("adam_beta1", self.adam_beta1),
            ("adam_beta2", self.adam_beta2),
        ];
        if !(self.regenerate_fraction > 0.0 && self.regenerate_fraction <= 1.0) {
            let share = self.regenerate_fraction;
            return Err(Error::Recipe(format!("regenerate_fraction = {share} must lie in (0, 1]")));
        }
        if !(self.ref_model_mixup_alpha > 0.0 && self.ref_model_mixup_alpha <= 1.0) {
            let share = self.ref_model_mixup_alpha;
            return Err(Error::Recipe(format!("ref_model_mixup_alpha = {share} must lie in (0, 1]")));
        }
        if self.ref_model_sync_steps == 0 {
            return Err(Error::Recipe("ref_model_sync_steps must be at least 1".into()));
        }
        match shares.into_iter().find(|(_, share)| !(0.0..1.0).contains(share)) {
            Some((key, value)) => Err(Error::Recipe(format!("{key} = {value} must lie in [0, 1)"))),
            None => Ok(()),
        }
    }
}
