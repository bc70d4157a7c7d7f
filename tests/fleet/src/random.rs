//! Random numbers that are the same in each run (SplitMix64, S. Vigna).

/// A generator.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Makes one of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end.max(1)
    }

    /// Returns how many of events come in a step, of which `mean` come on average: a Poisson process (D. Knuth).
    pub fn events(&mut self, mean: f64) -> u32 {
        let (least, mut product, mut count) = ((-mean).exp(), self.unit(), 0);
        while product > least {
            product *= self.unit();
            count += 1;
        }
        count
    }

    fn unit(&mut self) -> f64 {
        f64::from((self.number() >> 32) as u32) / f64::from(u32::MAX)
    }
}
