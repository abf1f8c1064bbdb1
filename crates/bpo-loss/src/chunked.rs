//! Token log-probs from hidden states, a chunk of rows at a time.
//!
//! With `z = W·h` and `p = softmax(z)`, `log p(y)` has the derivative `W[y] − Σ_v p_v·W[v]` in `h` and
//! `(1[v = y] − p_v)·h` in `W[v]`. Both need only the chunk's own logits, so the gradient of any loss
//! of the log-probs is exact without ever holding `[tokens, vocab]`: peak memory is
//! `chunk × vocab`. No custom backward operator is involved, hence it runs on every backend.
//! Soft-capped logits `u = c·tanh(z/c)` put the factor `du/dz = 1 − (u/c)²` on each term of the sums over v.
use bpo_kernels::{linear, linear_transposed, softmax, widened};
use burn::tensor::{Device, FloatDType, Int, Tensor, TensorData};

use crate::Error;

/// A language-model head `[vocab, hidden]` that turns hidden states into log-probs of given tokens. Of 16-bit weights or
/// hidden states the logits may be 16-bit; what is computed of them, and all results, are f32.
#[derive(Debug, Clone)]
pub struct Head {
    weight: Tensor<2>,
    chunk: usize,
    collisions: bool,
    softcap: Option<f64>,
}

/// Log-probs of target tokens, with their slopes where asked for.
#[derive(Debug, Clone)]
pub struct ScoredTokens {
    /// `[tokens]`, log p(token), in nats.
    pub logps: Tensor<1>,
    /// `[tokens, hidden]`, d log p(token) / d hidden state; scale each row by dL/d logp for the loss's gradient.
    pub slopes: Option<Tensor<2>>,
    /// `[tokens]`, log Σ_v p_v² of the position's whole distribution; with [`Head::with_collisions`].
    pub collisions: Option<Tensor<1>>,
}

/// Gradients of `Σ_t coefficient_t · log p(token_t)`.
#[derive(Debug, Clone)]
pub struct HeadGradients {
    /// `[tokens, hidden]`.
    pub hidden: Tensor<2>,
    /// `[vocab, hidden]`.
    pub weight: Tensor<2>,
}

impl Head {
    /// Rows of hidden states per chunk unless said otherwise: 25 MB of logits at 49,152 tokens.
    pub const DEFAULT_CHUNK: usize = 128;

    /// `weight`: `[vocab, hidden]`. Gradients through it are not recorded; see [`Head::gradients`].
    pub fn new(weight: Tensor<2>) -> Self {
        Self { weight: weight.inner(), chunk: Self::DEFAULT_CHUNK, collisions: false, softcap: None }
    }

    /// Sets how many hidden states are scored at once (at least one).
    #[must_use]
    pub fn with_chunk(mut self, rows: usize) -> Self {
        self.chunk = rows.max(1);
        self
    }

    /// Also gives log Σ_v p_v², the chance that two draws agree, which [`wpo_weight`](crate::wpo_weight) reads.
    #[must_use]
    pub fn with_collisions(mut self, wanted: bool) -> Self {
        self.collisions = wanted;
        self
    }

    /// Scores by the logits `c·tanh(z/c)` in place of `z`, for a `c` above 0, as Gemma 2 does. Riviere et al. 2024,
    /// arXiv:2408.00118.
    #[must_use]
    pub fn with_softcap(mut self, cap: Option<f64>) -> Self {
        self.softcap = cap;
        self
    }

    /// Rows of the head.
    pub fn vocab(&self) -> usize {
        self.weight.dims()[0]
    }

    /// Log-probs of `targets` under `hidden` `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`Error::WidthMismatch`], [`Error::LengthMismatch`], [`Error::TokenOutOfVocabulary`].
    pub fn score(&self, hidden: &Tensor<2>, targets: &[u32]) -> Result<ScoredTokens, Error> {
        self.scan(hidden, targets, false)
    }

    /// As [`Head::score`], keeping each token's slope: one pass is then enough for value and gradient,
    /// which is what a frozen head (LoRA elsewhere) needs.
    ///
    /// # Errors
    /// As [`Head::score`].
    pub fn score_with_slopes(&self, hidden: &Tensor<2>, targets: &[u32]) -> Result<ScoredTokens, Error> {
        self.scan(hidden, targets, true)
    }

    /// Second pass for a trainable head: gradients of `Σ_t coefficients[t] · log p(targets[t])` in the
    /// hidden states and in the head, accumulated chunk by chunk.
    ///
    /// # Errors
    /// As [`Head::score`]; `coefficients` must be as long as `targets`.
    pub fn gradients(&self, hidden: &Tensor<2>, targets: &[u32], coefficients: &[f32]) -> Result<HeadGradients, Error> {
        let hidden = self.check(hidden, targets)?;
        if coefficients.len() != targets.len() {
            let (left, right) = (targets.len(), coefficients.len());
            return Err(Error::LengthMismatch { what: "targets and coefficients", left, right });
        }
        let mut weight = widened(self.weight.zeros_like());
        let mut slopes = Vec::new();
        for (start, chunk) in chunks(targets, self.chunk) {
            let rows = hidden.clone().narrow(0, start, chunk.len());
            // dL/d logits = c·(1[v = y] − p_v), times du/dz
            let (logits, rise) = self.logits(rows.clone());
            let (probabilities, _) = softmax(logits);
            let scale: Tensor<2> = floats(&coefficients[start..start + chunk.len()], &probabilities).unsqueeze_dim(1);
            let pull = probabilities.neg() * scale.clone();
            let index: Tensor<2, Int> = ints(chunk, &rows.device()).unsqueeze_dim(1);
            let pull = pull.scatter(1, index, scale, burn::tensor::IndexingUpdateOp::Add);
            let pull = match rise {
                Some(rise) => pull * rise,
                None => pull,
            };
            slopes.push(self.mean_row(pull.clone(), &rows));
            weight = weight + pull.transpose().matmul(widened(rows));
        }
        let hidden = if slopes.is_empty() { widened(hidden) } else { Tensor::cat(slopes, 0) };
        Ok(HeadGradients { hidden, weight })
    }

    fn scan(&self, hidden: &Tensor<2>, targets: &[u32], with_slopes: bool) -> Result<ScoredTokens, Error> {
        let hidden = self.check(hidden, targets)?;
        let (mut logps, mut slopes, mut collisions) = (Vec::new(), Vec::new(), Vec::new());
        for (start, chunk) in chunks(targets, self.chunk) {
            let rows = hidden.clone().narrow(0, start, chunk.len());
            let index = ints(chunk, &rows.device());
            let (logits, rise) = self.logits(rows.clone());
            let column: Tensor<2, Int> = index.clone().unsqueeze_dim(1);
            let chosen = widened(logits.clone().gather(1, column.clone()).squeeze_dim::<1>(1));
            let (probabilities, normalisers) = softmax(logits);
            logps.push(chosen - normalisers);
            if self.collisions {
                let squares = probabilities.clone().square().sum_dim(1);
                collisions.push(squares.log().squeeze_dim::<1>(1));
            }
            if with_slopes {
                let target = widened(self.weight.clone().select(0, index));
                slopes.push(match rise {
                    None => target - self.mean_row(probabilities, &rows),
                    Some(rise) => target * rise.clone().gather(1, column) - self.mean_row(probabilities * rise, &rows),
                });
            }
        }
        if logps.is_empty() {
            let hidden = widened(hidden);
            let empty = Tensor::<1>::zeros([0], (&hidden.device(), hidden.dtype()));
            let collisions = self.collisions.then(|| empty.clone());
            return Ok(ScoredTokens { logps: empty, slopes: with_slopes.then_some(hidden), collisions });
        }
        let slopes = with_slopes.then(|| Tensor::cat(slopes, 0));
        let collisions = self.collisions.then(|| Tensor::cat(collisions, 0));
        Ok(ScoredTokens { logps: Tensor::cat(logps, 0), slopes, collisions })
    }

    /// Logits of hidden states, `[rows, vocab]`; where they are soft-capped, f32, with `du/dz = 1 − (u/c)²`.
    fn logits(&self, rows: Tensor<2>) -> (Tensor<2>, Option<Tensor<2>>) {
        let logits = linear(rows, self.weight.clone());
        let Some(cap) = self.softcap else { return (logits, None) };
        let tanh = (widened(logits) / cap).tanh();
        let rise = tanh.clone().square().neg() + 1.0;
        (tanh * cap, Some(rise))
    }

    /// `Σ_v share_v·W[v]` for each row of `shares` `[rows, vocab]`, multiplied in the precision of the hidden states.
    fn mean_row(&self, shares: Tensor<2>, hidden: &Tensor<2>) -> Tensor<2> {
        let dtype = hidden.dtype();
        let shares = if shares.dtype() == dtype { shares } else { shares.cast(FloatDType::from(dtype)) };
        widened(linear_transposed(shares, self.weight.clone()))
    }

    fn check(&self, hidden: &Tensor<2>, targets: &[u32]) -> Result<Tensor<2>, Error> {
        let hidden = hidden.clone().inner();
        let [tokens, width] = hidden.dims();
        let [vocab, head] = self.weight.dims();
        if width != head {
            return Err(Error::WidthMismatch { hidden: width, head });
        }
        if tokens != targets.len() {
            let (left, right) = (tokens, targets.len());
            return Err(Error::LengthMismatch { what: "hidden states and targets", left, right });
        }
        match targets.iter().position(|&token| token as usize >= vocab) {
            Some(position) => Err(Error::TokenOutOfVocabulary { token: targets[position], position, vocab }),
            None => Ok(hidden),
        }
    }
}

fn chunks(targets: &[u32], size: usize) -> impl Iterator<Item = (usize, &[u32])> {
    targets.chunks(size).enumerate().map(move |(i, chunk)| (i * size, chunk))
}

fn ints(values: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.iter().map(|&v| i64::from(v)).collect();
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

/// On the device and in the precision of `like`.
fn floats(values: &[f32], like: &Tensor<2>) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), (&like.device(), like.dtype()))
}
