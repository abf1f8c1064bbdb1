use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Case {
    name: String,
    wins: Vec<f64>,
    differences: Vec<f64>,
    rate: f64,
}

fn sized(wins: &[f64], differences: &[f64]) -> Vec<SizedWin> {
    wins.iter().zip(differences).map(|(&win, &difference)| SizedWin { win, difference }).collect()
}

fn mean(wins: &[SizedWin]) -> f64 {
    wins.iter().map(|win| win.win).sum::<f64>() / wins.len() as f64
}

/// `oracle.py` maximises the penalised likelihood by another method.
#[test]
fn rates_are_those_of_scipy() {
    let cases: Vec<Case> = serde_json::from_str(include_str!("oracle.json")).unwrap();
    assert!(cases.len() >= 5);
    for Case { name, wins, differences, rate } in cases {
        let ours = estimate(&sized(&wins, &differences)).unwrap();
        assert!((ours - rate).abs() < 1e-6, "{name}: {ours}, scipy {rate}");
    }
}

/// About normal with mean `mean` and deviation 1, as the sum of twelve uniforms.
fn normal(random: &mut ChaCha8Rng, mean: f64) -> f64 {
    mean - 6.0 + (0..12).map(|_| random.next_u64() as f64 / u64::MAX as f64).sum::<f64>()
}

#[test]
fn a_judge_that_only_prefers_length_gives_about_a_half() {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for longer in [0.0, 0.5, 1.0] {
        let win = |_| {
            let difference = (60.0 * normal(&mut random, longer)).round();
            SizedWin { win: if difference == 0.0 { 0.5 } else { f64::from(difference > 0.0) }, difference }
        };
        let wins: Vec<SizedWin> = (0..800).map(win).collect();
        let rate = estimate(&wins).unwrap();
        assert!((rate - 0.5).abs() < 0.1 && mean(&wins) > 0.45 + 0.3 * longer, "{longer}: {rate}");
        let interval = length_controlled_win_rate(&wins[..100], 1).unwrap();
        assert!(interval.low <= 0.5 && interval.high >= 0.5, "{longer}: {interval:?}");
    }
}

#[test]
fn a_judge_that_does_not_look_at_length_gives_the_plain_rate() {
    let mut random = ChaCha8Rng::seed_from_u64(8);
    let win = |_| {
        let difference = 60.0 * normal(&mut random, 1.0);
        SizedWin { win: f64::from(random.next_u64() % 10 < 7), difference }
    };
    let wins: Vec<SizedWin> = (0..2000).map(win).collect();
    let controlled = length_controlled_win_rate(&wins, 1).unwrap();
    assert!((controlled.mean - mean(&wins)).abs() < 0.03, "{controlled:?}, plain {}", mean(&wins));
}

#[test]
fn lengths_that_say_nothing_leave_the_plain_rate_or_none() {
    assert_eq!(estimate(&sized(&[1.0, 0.0, 1.0, 0.5], &[0.0; 4])), Some(0.625));
    assert_eq!(estimate(&sized(&[1.0, 0.0], &[7.0, 7.0])), None);
    assert_eq!(estimate(&sized(&[0.0, 0.0], &[-155.0, -184.0])), None);
    assert_eq!(length_controlled_win_rate(&[], 1), None);
}

#[test]
fn abstentions_are_left_out_and_lengths_are_characters() {
    let wins = [Some(1.0), None, Some(0.0)];
    let sized = sized_wins(&wins, ["zwölf", "x", ""].into_iter(), ["ab", "x", "漢字"].into_iter());
    assert_eq!(sized, [SizedWin { win: 1.0, difference: 3.0 }, SizedWin { win: 0.0, difference: -2.0 }]);
}

proptest! {
    /// From the other side's view it is the other rate.
    #[test]
    fn swapping_the_sides_gives_the_complement(rows in prop::collection::vec((0..3u8, -500..500i32), 2..60)) {
        let wins: Vec<SizedWin> = rows
            .iter()
            .map(|&(win, d)| SizedWin { win: f64::from(win) / 2.0, difference: f64::from(d) })
            .collect();
        let swapped: Vec<SizedWin> =
            wins.iter().map(|w| SizedWin { win: 1.0 - w.win, difference: -w.difference }).collect();
        match (estimate(&wins), estimate(&swapped)) {
            (Some(one), Some(other)) => {
                prop_assert!((0.0..=1.0).contains(&one) && (one + other - 1.0).abs() < 1e-6, "{one} {other}");
            }
            (one, other) => prop_assert_eq!(one, other),
        }
    }

    /// The unit of length does not matter.
    #[test]
    fn lengths_have_no_unit(rows in prop::collection::vec((0..2u8, -500..500i32), 2..60), unit in 0.1..50.0f64) {
        let wins = |unit: f64| -> Vec<SizedWin> {
            rows.iter().map(|&(w, d)| SizedWin { win: f64::from(w), difference: unit * f64::from(d) }).collect()
        };
        if let (Some(one), Some(other)) = (estimate(&wins(1.0)), estimate(&wins(unit))) {
            prop_assert!((one - other).abs() < 1e-6, "{one} {other}");
        }
    }
}
