//! Win rates as they would be if both sides wrote texts of the same length.
use crate::{Interval, statistics::bootstrap};

/// What came of one prompt: the win of the first side (1, 0, ½ for a tie), and how much longer its text is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizedWin {
    /// 1 where the first side is preferred, 0 where the second is, ½ for a tie.
    pub win: f64,
    /// Characters of the first side's text minus those of the second's.
    pub difference: f64,
}

/// Wins with the lengths of both texts; abstentions are left out.
pub fn sized_wins<'a>(
    wins: &[Option<f64>],
    ours: impl Iterator<Item = &'a str>,
    theirs: impl Iterator<Item = &'a str>,
) -> Vec<SizedWin> {
    let length = |text: &str| text.chars().count() as f64;
    let sized = |(win, (ours, theirs)): (&Option<f64>, (&str, &str))| {
        Some(SizedWin { win: (*win)?, difference: length(ours) - length(theirs) })
    };
    wins.iter().zip(ours.zip(theirs)).filter_map(sized).collect()
}

/// The length-controlled win rate with its bootstrap interval over prompts (all of it is done again for a resample).
///
/// AlpacaEval 2's regression (Dubois et al. 2024, arXiv:2404.04475) for one pair of policies:
/// `P(win) = σ(θ + φ · tanh(d / s))`, d being the difference of lengths and s its standard deviation over the prompts;
/// the result is σ(θ), the rate at d = 0. The difficulty of instructions, their third term, is left out: it is estimated
/// from other models' outputs, of which there are none here. θ and φ maximise the likelihood with Firth's penalty
/// ½ log det I(θ, φ) (Firth 1993), which keeps them finite where the lengths decide every verdict, and needs no strength.
///
/// Where all texts are as long as their opponents, it is the plain win rate. Where all differences are one and the same
/// other number, or so large that their tanh is, length and policy cannot be told apart: `None`, as without any wins.
pub fn length_controlled_win_rate(wins: &[SizedWin], seed: u64) -> Option<Interval> {
    bootstrap(wins, seed, estimate)
}

fn estimate(wins: &[SizedWin]) -> Option<f64> {
    let count = wins.len() as f64;
    let mean = |of: &dyn Fn(&SizedWin) -> f64| wins.iter().map(of).sum::<f64>() / count;
    let centre = mean(&|win| win.difference);
    let deviation = mean(&|win| (win.difference - centre).powi(2)).sqrt();
    if deviation == 0.0 {
        return (centre == 0.0).then(|| mean(&|win| win.win));
    }
    let rows: Vec<[f64; 2]> = wins.iter().map(|win| [win.win, (win.difference / deviation).tanh()]).collect();
    let spread = |of: fn(f64, f64) -> f64, from: f64| rows.iter().map(|row| row[1]).fold(from, of);
    if spread(f64::max, f64::NEG_INFINITY) - spread(f64::min, f64::INFINITY) < SPREAD {
        return None;
    }
    Some(sigmoid(fit(&rows)[0]))
}

/// How far apart the tanh(d / s) are, at least, of lengths that can be told from the policy.
const SPREAD: f64 = 0.05;
/// Iterations of [`fit`] at most; it takes about eight.
const ITERATIONS: usize = 60;
/// Where [`fit`] is done, and the longest step that it takes.
const STEPS: [f64; 2] = [1e-8, 4.0];
/// Distance of the points from which the slope of the score is taken.
const APART: f64 = 1e-5;

/// θ and φ of `P(y = 1) = σ(θ + φ·x)` for rows of y and x, where the penalised likelihood is highest: Newton's method
/// on its score, in the direction of Fisher scoring where the likelihood is not concave. A step that would lower the
/// likelihood is halved.
fn fit(rows: &[[f64; 2]]) -> [f64; 2] {
    let mut here = Point::at(rows, [0.0; 2]);
    for _ in 0..ITERATIONS {
        let Some(step) = here.newton_step(rows) else { break };
        let size = step[0].abs().max(step[1].abs());
        let mut share = (STEPS[1] / size).min(1.0);
        let mut next = here.moved(rows, step, share);
        while next.value < here.value && share * size > STEPS[0] {
            share /= 2.0;
            next = here.moved(rows, step, share);
        }
        if next.value < here.value {
            break;
        }
        here = next;
        if size < STEPS[0] {
            break;
        }
    }
    here.at
}

/// The penalised likelihood at some θ and φ.
struct Point {
    at: [f64; 2],
    value: f64,
    /// Its gradient.
    score: [f64; 2],
    /// Of θ, of both, of φ.
    information: [f64; 3],
}

impl Point {
    /// The score is Σ (y − p + h·(½ − p))·(1, x), h being the leverage of a row (Heinze & Schemper 2002).
    fn at(rows: &[[f64; 2]], at: [f64; 2]) -> Self {
        let (mut value, mut information) = (0.0, [0.0; 3]);
        let chances: Vec<f64> = rows
            .iter()
            .map(|[y, x]| {
                let z = at[0] + at[1] * x;
                let p = sigmoid(z);
                let w = p * (1.0 - p);
                // log σ(z) = log σ(−z) + z
                value += y * z - z.max(0.0) - (-z.abs()).exp().ln_1p();
                let [a, b, c] = information;
                information = [a + w, b + w * x, c + w * x * x];
                p
            })
            .collect();
        let [a, b, c] = information;
        let determinant = (a * c - b * b).max(f64::MIN_POSITIVE);
        let mut score = [0.0; 2];
        for ([y, x], p) in rows.iter().zip(chances) {
            let leverage = p * (1.0 - p) * (c - 2.0 * b * x + a * x * x) / determinant;
            let residual = y - p + leverage * (0.5 - p);
            score = [score[0] + residual, score[1] + residual * x];
        }
        Self { at, value: value + 0.5 * determinant.ln(), score, information }
    }

    fn moved(&self, rows: &[[f64; 2]], step: [f64; 2], share: f64) -> Self {
        Self::at(rows, [self.at[0] + share * step[0], self.at[1] + share * step[1]])
    }

    fn newton_step(&self, rows: &[[f64; 2]]) -> Option<[f64; 2]> {
        // From both sides: what one side's view converges to, the other's does.
        let slope = |direction: [f64; 2]| {
            let [before, behind] = [-APART, APART].map(|share| self.moved(rows, direction, share).score);
            [0, 1].map(|of| (before[of] - behind[of]) / (2.0 * APART))
        };
        let ([a, b], [c, d]) = (slope([1.0, 0.0]), slope([0.0, 1.0]));
        solved([a, (b + c) / 2.0, d], self.score).or_else(|| solved(self.information, self.score))
    }
}

/// The solution of a symmetric system of two equations; `None` unless it is positive definite.
fn solved([a, b, c]: [f64; 3], [u, v]: [f64; 2]) -> Option<[f64; 2]> {
    let determinant = a * c - b * b;
    let is_definite = a > 0.0 && determinant > 1e-12 * a * c && determinant > f64::MIN_POSITIVE;
    is_definite.then(|| [(c * u - b * v) / determinant, (a * v - b * u) / determinant])
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests;
