//! A train/held-out split that depends on the prompt alone.

/// Whether a prompt belongs to the held-out side, which gets about `share` of all prompts.
///
/// The answer depends on the text, the seed and the share only: identical prompts always land on
/// the same side, in whichever file or row they are, and raising `share` only moves prompts to
/// the held-out side. `share` is clamped to `0..=1`; NaN holds nothing out.
pub fn held_out(prompt_text: &str, seed: u64, share: f64) -> bool {
    // 53 bits: exactly representable, in 0..1.
    let position = (hash(prompt_text.as_bytes(), seed) >> 11) as f64 / (1_u64 << 53) as f64;
    position < share
}

/// FNV-1a finished with the mixer of SplitMix64: small, stable between versions and platforms.
fn hash(bytes: &[u8], seed: u64) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ mix(seed);
    mix(bytes.iter().fold(start, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)))
}

fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_share_is_met() {
        for share in [0.05, 0.2, 0.5] {
            for seed in [0, 1, 99] {
                let held = (0..20_000).filter(|i| held_out(&format!("prompt {i}"), seed, share)).count();
                let error = (held as f64 / 20_000.0 - share).abs();
                assert!(error < 0.012, "share {share}, seed {seed}: off by {error}");
            }
        }
    }

    #[test]
    fn extreme_shares_hold_out_all_or_nothing() {
        for text in ["", "a", "b"] {
            assert!(held_out(text, 1, 1.0) && held_out(text, 1, 2.0));
            assert!(!held_out(text, 1, 0.0) && !held_out(text, 1, -1.0) && !held_out(text, 1, f64::NAN));
        }
    }

    #[test]
    fn the_split_never_changes_between_versions() {
        let sides: String = (0..16).map(|i| if held_out(&format!("p{i}"), 3, 0.5) { 'h' } else { 't' }).collect();
        assert_eq!(sides, "httthhhthtttthht");
    }

    proptest! {
        #[test]
        fn a_larger_share_only_adds(text: String, seed: u64, a in 0.0..1.0, b in 0.0..1.0) {
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(!held_out(&text, seed, low) || held_out(&text, seed, high));
        }
    }
}
