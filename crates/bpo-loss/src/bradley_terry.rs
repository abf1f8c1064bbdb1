use burn::tensor::Tensor;

use crate::{Error, pair::same_length, stable::log_sigmoid};

/// The loss of a reward model on preference pairs: `−log σ(r_c − r_r − margin) + centre·(r_c + r_r)²`, unreduced,
/// `[pairs]`.
///
/// `chosen` and `rejected` are `[pairs]` scores, `margins` `[pairs]` by how much the one should be above the other (0
/// where there are none). Scores that differ by a constant in each pair have the same likelihood; `centre` above 0 pulls
/// the two of a pair towards a mean of 0. Finite for all finite scores.
///
/// Bradley & Terry 1952; the margin is that of Llama 2 (Touvron et al. 2023, arXiv:2307.09288, eq. 2), the centring that of
/// Eisenstein et al. 2023, arXiv:2312.09244, as `center_rewards_coefficient` of TRL's `RewardTrainer` computes it.
///
/// # Errors
/// [`Error::LengthMismatch`] when the three differ in length.
pub fn bradley_terry(
    chosen: Tensor<1>,
    rejected: Tensor<1>,
    margins: Option<Tensor<1>>,
    centre: f64,
) -> Result<Tensor<1>, Error> {
    same_length("chosen and rejected scores", &chosen, &rejected)?;
    let mut distance = chosen.clone() - rejected.clone();
    if let Some(margins) = margins {
        same_length("scores and margins", &chosen, &margins)?;
        distance = distance - margins;
    }
    let loss = log_sigmoid(distance).neg();
    if centre == 0.0 {
        return Ok(loss);
    }
    let sum = chosen + rejected;
    Ok(loss + sum.clone() * sum * centre)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    fn loss(chosen: f64, rejected: f64, margin: f64, centre: f64) -> f64 {
        let distance = chosen - rejected - margin;
        (-distance).exp().ln_1p() + centre * (chosen + rejected).powi(2)
    }

    #[test]
    fn values_and_slopes_are_those_of_the_formula() {
        let device = Device::flex();
        let (chosen, rejected, margins) = ([1.5f32, -0.5, 2.0], [0.5f32, 0.25, 2.0], [0.0f32, 0.5, 1.0]);
        for (given, centre) in [(true, 0.0), (true, 0.01), (false, 0.3)] {
            let leaf = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).autodiff().require_grad();
            let (c, r) = (leaf(chosen), leaf(rejected));
            let m = given.then(|| Tensor::from_floats(margins, &device));
            let losses = bradley_terry(c.clone(), r.clone(), m, centre).unwrap();
            let values: Vec<f32> = losses.clone().inner().try_into_vec_as().unwrap();
            let mut gradients = losses.sum().backward();
            let slopes = [&c, &r]
                .map(|leaf| -> Vec<f32> { leaf.grad_remove(&mut gradients).unwrap().try_into_vec_as().unwrap() });
            for pair in 0..3 {
                let at = |c: f64, r: f64| loss(c, r, if given { f64::from(margins[pair]) } else { 0.0 }, centre);
                let (c, r) = (f64::from(chosen[pair]), f64::from(rejected[pair]));
                assert!((f64::from(values[pair]) - at(c, r)).abs() < 1e-5);
                const H: f64 = 1e-5;
                let expected = [(at(c + H, r) - at(c - H, r)) / (2.0 * H), (at(c, r + H) - at(c, r - H)) / (2.0 * H)];
                for (side, expected) in slopes.iter().zip(expected) {
                    assert!((f64::from(side[pair]) - expected).abs() < 1e-4, "{slopes:?}, {expected}");
                }
            }
        }
    }

    #[test]
    fn sides_of_different_lengths_are_refused() {
        let device = Device::flex();
        let of = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        assert!(bradley_terry(of(&[1.0]), of(&[1.0, 2.0]), None, 0.0).is_err());
        assert!(bradley_terry(of(&[1.0]), of(&[1.0]), Some(of(&[1.0, 2.0])), 0.0).is_err());
    }
}
