//! What a guest under load and its test have in common: ports, orders, and bytes that both can make.

/// Whoever connects here gets [`Bytes`] of [`GIVEN`] until it closes.
pub const GIVE_PORT: u32 = 1;
/// Whoever connects here sends bytes of [`TAKEN`], and gets the number of those that were right.
pub const TAKE_PORT: u32 = 2;
/// Whoever connects here gives an order in one byte, and gets a line.
pub const ORDER_PORT: u32 = 3;

/// Rings the doorbell, so that the machine is saved.
pub const RING: u8 = b'r';
/// Ends the work on the disk and reads all of it; the answer is [`GOOD_DISK`] or what is wrong.
pub const REPORT: u8 = b'd';
/// Switches the machine off.
pub const OFF: u8 = b'o';
/// The answer of a guest whose disk holds what was written last.
pub const GOOD_DISK: &str = "every block is as it was written\n";

/// The seeds of both directions.
pub const GIVEN: u64 = 1;
/// As [`GIVEN`].
pub const TAKEN: u64 = 2;

/// The size of the disk that the guest works on.
pub const DISK_BYTES: u64 = 16 << 20;

/// An endless run of bytes that follow from a seed.
pub struct Bytes {
    seed: u64,
    position: u64,
}

impl Bytes {
    /// From its beginning.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self { seed, position: 0 }
    }

    /// How many were made.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next ones.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next());
    }

    /// Whether `bytes` are the next ones.
    pub fn are(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| *byte == self.next())
    }

    /// One of eight that lie in a word: `SplitMix64`, Steele and others 2014.
    fn next(&mut self) -> u8 {
        let (word, byte) = (self.position / 8, self.position % 8);
        self.position += 1;
        let mut mixed = (self.seed << 40).wrapping_add(word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed.to_le_bytes()[usize::try_from(byte).expect("below eight")]
    }
}
