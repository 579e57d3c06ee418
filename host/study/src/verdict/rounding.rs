//! How numbers are rounded for people. Files of numbers keep full precision.

/// A loss difference without its sign.
pub(crate) fn nats(difference: f64) -> String {
    let size = difference.abs();
    if size == 0.0 || size >= 0.0005 { format!("{size:.4}") } else { format!("{size:.1e}") }
}

/// A loss difference with its sign.
pub(crate) fn signed_nats(difference: f64) -> String {
    let sign = if difference < 0.0 { '-' } else { '+' };
    format!("{sign}{}", nats(difference))
}

/// A cost as a multiple of the baseline's.
pub(crate) fn ratio(ratio: f64) -> String {
    format!("{ratio:.3}×")
}

/// A multiple that something was shown not to be within: rounded down, so as not to claim more than was run.
pub(crate) fn at_most_known(ratio: f64) -> String {
    format!("{:.2}×", (ratio * 100.0 + 1e-9).floor() / 100.0)
}

/// A share; rounded down, since shares are compared with a minimum.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1}%", (share * 1000.0 + 1e-9).floor() / 10.0)
}

/// A probability.
pub(crate) fn p_value(p: f64) -> String {
    if p >= 0.0001 { format!("{p:.4}") } else { format!("{p:.1e}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_numbers_do_not_become_zero() {
        assert_eq!(signed_nats(-0.01234), "-0.0123");
        assert_eq!(signed_nats(0.000_012), "+1.2e-5");
        assert_eq!(signed_nats(0.0), "+0.0000");
        assert_eq!(p_value(0.0625), "0.0625");
        assert_eq!(p_value(0.000_001_9), "1.9e-6");
    }

    #[test]
    fn what_is_bounded_is_not_rounded_up() {
        assert_eq!(at_most_known(1.0), "1.00×");
        assert_eq!(at_most_known(1.999), "1.99×");
        assert_eq!(at_most_known(1.15), "1.15×");
        assert_eq!(percent(0.9799), "97.9%");
        assert_eq!(percent(0.98), "98.0%");
    }
}
