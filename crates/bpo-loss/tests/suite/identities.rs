//! Losses that are one another under some choice of their parameters.
use bpo_loss::{FDivergence, Form, GpoFunction, LossType, Objective};
use proptest::prelude::*;

use crate::pairs::{Batch, distance};

fn any_batch(pairs: std::ops::Range<usize>) -> impl Strategy<Value = Batch> {
    prop::collection::vec(prop::array::uniform2(-30.0..30.0), pairs).prop_map(|ratios| Batch::of_ratios(&ratios))
}

fn same(batch: &Batch, left: &Objective, right: &Objective, tolerance: f64) -> Result<(), TestCaseError> {
    let [left, right] = [left, right].map(|objective| batch.outcome(objective).unwrap());
    prop_assert!(distance(&left.losses, &right.losses) < tolerance, "{left:?} {right:?}");
    for side in 0..2 {
        prop_assert!(distance(&left.gradients[side], &right.gradients[side]) < tolerance, "{left:?} {right:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn gpo_contains_dpo_and_slic_and_half_the_beta_of_ipo(batch in any_batch(1..5), beta in 1e-3..2.0f64) {
        let of = |loss: LossType| Objective { beta, ipo_length_norm: false, ..loss.into() };
        same(&batch, &of(LossType::Gpo(GpoFunction::Logistic)), &of(LossType::Sigmoid), 1e-15)?;
        same(&batch, &of(LossType::Gpo(GpoFunction::Hinge)), &of(LossType::Hinge), 1e-15)?;
        // (βρ − 1)² = β²·(ρ − 1/(2β′))² with β′ = β/2.
        let mut ipo = Objective { beta: beta / 2.0, ..of(LossType::Ipo) };
        ipo.terms[0].weight = beta * beta;
        same(&batch, &of(LossType::Gpo(GpoFunction::Squared)), &ipo, 1e-11)?;
    }

    #[test]
    fn lrml_is_discopop_at_its_temperature_and_its_old_form_at_beta(batch in any_batch(1..5), beta in 1e-3..2.0f64) {
        let of = |loss: LossType, beta: f64| Objective { beta, ..loss.into() };
        let lrml = |form: Form| LossType::Lrml(form);
        same(&batch, &of(lrml(Form::Current), beta), &of(LossType::Discopop, beta), 1e-10)?;
        same(&batch, &of(lrml(Form::Current), 0.05), &of(lrml(Form::Old), 0.05), 1e-12)?;
    }

    #[test]
    fn optimal_transport_of_one_pair_is_dpo(batch in any_batch(1..2), beta in 1e-3..2.0f64, label_smoothing in 0.0..0.5) {
        let of = |loss: LossType| Objective { beta, label_smoothing, ..loss.into() };
        same(&batch, &of(LossType::Aot), &of(LossType::Sigmoid), 1e-12)?;
        same(&batch, &of(LossType::AotUnpaired), &of(LossType::Sigmoid), 1e-12)?;
    }

    #[test]
    fn the_alpha_divergence_tends_to_the_reverse_kl(batch in any_batch(1..5), beta in 1e-3..1.0f64, near in -1e-7..1e-7f64) {
        let of = |divergence: FDivergence| Objective { beta, divergence, ..LossType::Sigmoid.into() };
        let alpha = of(FDivergence::AlphaDivergence { coefficient: 1.0 + near });
        same(&batch, &alpha, &of(FDivergence::ReverseKl), 1e-3)?;
    }

    #[test]
    fn the_alpha_divergence_at_zero_is_the_forward_kl(batch in any_batch(1..5), beta in 1e-3..1.0f64) {
        let of = |divergence: FDivergence| Objective { beta, divergence, ..LossType::Sigmoid.into() };
        same(&batch, &of(FDivergence::AlphaDivergence { coefficient: 0.0 }), &of(FDivergence::ForwardKl), 1e-9)?;
    }

    #[test]
    fn losses_of_beta_times_the_margin_scale(batch in any_batch(1..5), beta in 1e-2..1.0f64, factor in 0.1..4.0f64) {
        // f(β·ρ) at β·k is f at k·ρ.
        let scaled: Vec<[f64; 2]> = (0..batch.pairs())
            .map(|i| [0, 1].map(|side| factor * (batch.policy[side][i] - batch.reference[side][i])))
            .collect();
        for loss in ["sigmoid", "hinge", "exo_pair", "robust", "nca_pair", "bco_pair", "apo_zero", "apo_down", "discopop"] {
            let of = |beta: f64| Objective { beta, ..loss.parse::<LossType>().unwrap().into() };
            let stronger = batch.outcome(&of(beta * factor)).unwrap().losses;
            let further = Batch::of_ratios(&scaled).outcome(&of(beta)).unwrap().losses;
            prop_assert!(distance(&stronger, &further) < 1e-10, "{loss}");
        }
    }
}
