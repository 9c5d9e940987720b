//! Numbers that a seed chooses, for tests that cannot try everything.

/// A stream of numbers; `HYPERRUN_TEST_SEED` says which.
pub struct Sample {
    seed: u64,
    state: u64,
}

/// Whether tests are to try everything: `HYPERRUN_TEST_FULL` is set.
pub fn is_full() -> bool {
    std::env::var_os("HYPERRUN_TEST_FULL").is_some()
}

/// How many of `all` cases a test tries: all of them where it is to try everything, else a tenth.
pub fn sample_size(all: usize) -> usize {
    if is_full() { all } else { all.div_ceil(10) }
}

impl Sample {
    /// The stream of this run, which `scripts/test` prints the seed of; without a seed, always the
    /// same one.
    pub fn of_this_run() -> Self {
        let seed = std::env::var("HYPERRUN_TEST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = seed.unwrap_or(1);
        Self { seed, state: seed }
    }

    /// Which stream it is, for a test that failed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `end`. `SplitMix64`, Steele and others 2014.
    pub fn below(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let end = u64::try_from(end).expect("64 bits");
        usize::try_from((mixed ^ (mixed >> 31)) % end).expect("below a usize")
    }
}
