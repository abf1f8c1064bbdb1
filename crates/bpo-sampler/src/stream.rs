use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Names one stream of random numbers: what it yields depends on nothing else, not on the batch a
/// row is sampled in, not on threads, not on whether the run was resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamKey {
    /// The run's seed.
    pub seed: u64,
    /// The training step (or another number that separates one use from the next).
    pub step: u64,
    /// The prompt's id.
    pub prompt: u64,
    /// Which of the prompt's samples.
    pub slot: u64,
}

impl StreamKey {
    /// The stream itself. The four numbers are the 256-bit ChaCha key, so no two keys collide.
    pub fn stream(self) -> TokenStream {
        let mut key = [0u8; 32];
        for (bytes, number) in key.chunks_exact_mut(8).zip([self.seed, self.step, self.prompt, self.slot]) {
            bytes.copy_from_slice(&number.to_le_bytes());
        }
        TokenStream(ChaCha8Rng::from_seed(key))
    }

    /// 31 bits of the stream, a seed for a sampler that has a generator of its own.
    pub fn seed31(self) -> u32 {
        (self.stream().0.next_u64() >> 33) as u32
    }
}

/// Uniform numbers of one [`StreamKey`].
#[derive(Debug, Clone)]
pub struct TokenStream(ChaCha8Rng);

impl TokenStream {
    /// Uniform in [0, 1) with 53 bits.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: StreamKey = StreamKey { seed: 1, step: 2, prompt: 3, slot: 4 };

    #[test]
    fn a_key_always_yields_the_same_numbers_and_another_key_others() {
        let draw = |key: StreamKey| {
            let mut stream = key.stream();
            (0..8).map(|_| stream.uniform()).collect::<Vec<_>>()
        };
        assert_eq!(draw(KEY), draw(KEY));
        for other in [
            StreamKey { seed: 9, ..KEY },
            StreamKey { step: 9, ..KEY },
            StreamKey { prompt: 9, ..KEY },
            StreamKey { slot: 9, ..KEY },
        ] {
            assert_ne!(draw(KEY), draw(other));
            assert_ne!(KEY.seed31(), other.seed31());
        }
    }

    #[test]
    fn numbers_are_uniform_on_the_unit_interval() {
        let mut stream = KEY.stream();
        let numbers: Vec<f64> = (0..20_000).map(|_| stream.uniform()).collect();
        assert!(numbers.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
    }
}
