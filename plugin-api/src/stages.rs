//! Shares of a budget in whole steps.

use crate::{Error, Result};

/// The first step of each stage, where stages take these shares of so many steps: the first begins at step 0. Each share's
/// end is rounded on its own, so that roundings do not add up.
///
/// ```
/// use sapwood_plugin::stage_starts;
///
/// assert_eq!(stage_starts(&[0.25, 0.25, 0.5], 10)?, [0, 3, 5]);
/// let refused = stage_starts(&[0.25, 0.25, 0.5], 2).expect_err("the second has no step of its own");
/// assert_eq!(refused.to_string(), "a share is less than one step");
/// # sapwood_plugin::Result::Ok(())
/// ```
///
/// # Errors
/// As for [`check_shares`], or a share that comes to less than a step. The error names no field: [`Error::in_field`] adds
/// the configuration's.
pub fn stage_starts(shares: &[f64], steps: u64) -> Result<Vec<u64>> {
    check_shares(shares)?;
    let ends = shares[..shares.len() - 1].iter().scan(0.0, |sum, share| {
        *sum += share;
        Some((*sum * steps as f64).round() as u64)
    });
    let starts: Vec<u64> = std::iter::once(0).chain(ends).collect();
    let ends = starts[1..].iter().chain([&steps]);
    if starts.iter().zip(ends).any(|(start, end)| start >= end) {
        return Err(Error::new("a share is less than one step"));
    }
    Ok(starts)
}

/// Refuses what are no shares of a whole.
///
/// # Errors
/// A share that is no number above 0, or shares that do not sum to 1.
pub fn check_shares(shares: &[f64]) -> Result<()> {
    if !shares.iter().all(|share| *share > 0.0) {
        return Err(Error::new("every share must be positive"));
    }
    if (shares.iter().sum::<f64>() - 1.0).abs() > 1e-9 {
        return Err(Error::new("the shares must sum to 1"));
    }
    Ok(())
}
