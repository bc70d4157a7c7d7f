//! The statistics that rules stand on: shares of few devices, and counts that are more than chance.

/// Standard deviations of the interval that a share is judged by: 97.5 % of shares lie above its lower bound.
const WILSON_Z: f64 = 1.96;

/// Returns the lower bound of Wilson's interval for the share of `hits` in `all`, from 0 to 1.
///
/// Three of three devices are much and three of three thousand are not; a plain share of few devices would say neither.
/// (E. B. Wilson, 1927.)
#[must_use]
pub fn wilson_lower_bound(hits: u32, all: u32) -> f64 {
    if all == 0 {
        return 0.0;
    }
    let (n, z2) = (f64::from(all), WILSON_Z * WILSON_Z);
    let share = f64::from(hits.min(all)) / n;
    let centre = share + z2 / (2.0 * n);
    let margin = WILSON_Z * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    ((centre - margin) / (1.0 + z2 / n)).max(0.0)
}

/// Returns by how many standard deviations `count` lies above what a Poisson process with this mean yields.
///
/// By the square root, whose deviation is one half whatever the mean is (M. S. Bartlett, 1936). With few events it says less
/// than `(count - mean) / mean.sqrt()`, whose far tail is much heavier than that of a normal distribution.
#[must_use]
pub fn poisson_deviations(count: u32, mean: f64) -> f64 {
    2.0 * (f64::from(count).sqrt() - mean.max(0.0).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of R's `binom.confint(method = "wilson")`, to three digits.
    #[test]
    fn wilsons_bound_is_that_of_the_books() {
        for (hits, all, bound) in [
            (3, 3, 0.438),
            (3, 10, 0.108),
            (3, 100, 0.010),
            (20, 1000, 0.013),
            (0, 50, 0.0),
            (0, 0, 0.0),
        ] {
            let is = wilson_lower_bound(hits, all);
            assert!((is - bound).abs() < 0.001, "{hits} of {all}: {is}");
        }
        assert!(wilson_lower_bound(9, 3) <= 1.0, "more hits than devices");
    }

    /// The exact tail of a Poisson process beyond five of these deviations is less than that of a normal distribution.
    #[test]
    fn five_deviations_of_a_count_are_rarer_than_five_of_a_normal_distribution() {
        for mean in [0.5, 1.0, 4.0, 16.0, 60.0, 400.0] {
            let least = (0..2000u32).find(|count| poisson_deviations(*count, mean) > 5.0).unwrap();
            let (mut term, mut below) = ((-mean).exp(), 0.0);
            for count in 0..least {
                below += term;
                term *= mean / f64::from(count + 1);
            }
            let mut tail = 0.0;
            for count in least..least + 400 {
                tail += term;
                term *= mean / f64::from(count + 1);
            }
            assert!(tail < 2.87e-7, "{mean}: {least} or more have {tail:e} ({below})");
        }
    }
}
