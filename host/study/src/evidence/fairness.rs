//! Whether arms had the same chance to find a learning rate, in words for the report.

use crate::file::StudyFile;
use crate::planning::sweep::{ArmSweep, SweepFinding};

/// What a critic would say of a study's learning rates, the weightiest first.
pub(crate) fn of(file: &StudyFile, sweep: Option<&SweepFinding>) -> Vec<String> {
    match sweep {
        Some(sweep) => of_sweep(sweep),
        None => without_sweep(file),
    }
}

fn of_sweep(sweep: &SweepFinding) -> Vec<String> {
    let at_an_end = sweep.arms.iter().filter(|arm| arm.is_at_an_end());
    let warning = |ArmSweep { arm, chosen, .. }: &ArmSweep| {
        format!(
            "{arm}: its best rate, {chosen:e}, stands at an end of the sweep; a better one may lie beyond."
        )
    };
    at_an_end.map(warning).collect()
}

fn without_sweep(file: &StudyFile) -> Vec<String> {
    let schedule =
        |arm: &str| file.arms.get(arm).and_then(|arm| arm.schedule.as_ref()).unwrap_or(&file.schedule);
    let baseline = &file.study.baseline;
    let others = || file.arms.keys().filter(|arm| *arm != baseline);
    let own: Vec<&str> =
        others().filter(|arm| schedule(arm) != schedule(baseline)).map(String::as_str).collect();
    let mut warnings = Vec::new();
    if !own.is_empty() {
        warnings.push(format!(
            "{} {} a learning rate other than that of {baseline}: as far as this study shows, one side alone was tuned. A \
             [sweep] gives every arm the same trials.",
            own.join(", "),
            if own.len() == 1 { "has" } else { "have" },
        ));
    }
    if others().any(|arm| schedule(arm) == schedule(baseline)) {
        warnings.push(format!(
            "The rate {:e} was looked for in no arm: which would suit each best is not known. A [sweep] finds out.",
            schedule(baseline).rate
        ));
    }
    warnings
}
