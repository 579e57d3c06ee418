//! Which runs a study's file plans, seeds aside, and which of them serves which comparison.

use crate::ArmPlan;
use crate::file::{Comparison, StudyFile};

/// What ends the baseline's runs.
pub(crate) const BASELINE_BUDGET: &str = "tokens";

/// How every arm but the baseline is compared, in the order of the file.
pub(crate) fn plans(file: &StudyFile) -> Vec<ArmPlan> {
    let others = file.arms.keys().filter(|arm| **arm != file.study.baseline);
    others.map(|arm| plan_of(file, arm)).collect()
}

/// Every arm with the budgets that it has runs for, the baseline first.
pub(crate) fn runs_by_arm(file: &StudyFile) -> Vec<(String, Vec<String>)> {
    let baseline = (file.study.baseline.clone(), vec![BASELINE_BUDGET.to_owned()]);
    let budgets = |plan: &ArmPlan| plan.budgets().into_iter().map(str::to_owned).collect();
    let others = plans(file).into_iter().map(|plan| (plan.arm.clone(), budgets(&plan)));
    std::iter::once(baseline).chain(others).collect()
}

/// Which of an arm's runs serve which comparison.
fn plan_of(file: &StudyFile, arm: &str) -> ArmPlan {
    let budgets = file.budgets(arm);
    let longest = budgets.last().copied();
    let compare = |comparison| file.study.compare.contains(&comparison);
    ArmPlan {
        arm: arm.to_owned(),
        token_matched: budgets.first().filter(|_| compare(Comparison::Tokens)).map(|&budget| budget.into()),
        compute_matched: longest.filter(|_| compare(Comparison::Compute)).map(Into::into),
        cost_to_reach: longest.map(Into::into),
    }
}
