//! How often, and when: shared with the tests of whole runs (tests/faults).

/// How many faults: `count`, or as many times that as the environment says.
pub fn faults(count: u64) -> u64 {
    let times = std::env::var("BPO_FAULTS").ok().map_or(1, |times| times.parse().expect("BPO_FAULTS is a number"));
    count * times
}

/// Random numbers that are the same in every run of a test (SplitMix64).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (x ^ (x >> 31)) % sides.max(1)
    }
}
