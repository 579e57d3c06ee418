//! A judgement laid out: for the terminal, as Markdown, as JSON. Every renderer returns text; where it is
//! printed or written is not decided here, and no number is computed here.
//!
//! # `report.json`
//!
//! Stable keys; numbers at full precision; what is not known, or not a number, is `null`.
//!
//! | key | content |
//! | --- | --- |
//! | `study` | `format` (1), `name`, `baseline`, `seeds` |
//! | `arms` | an [`ArmRuns`](crate::ArmRuns) each, the baseline first: what became of its runs and where they ended |
//! | `verdict` | `overall` and, in `arms`, an [`ArmVerdict`](crate::ArmVerdict) with its `arm` for each |
//! | `comparisons` | for each arm `arm`, `token_matched` and `compute_matched` ([`LossDifference`](crate::LossDifference)), `cost_to_reach` ([`CostToReach`](crate::CostToReach)), `crossover` ([`Crossover`](crate::Crossover)), `continual` ([`Continual`](crate::Continual)); `null` where not planned |
//! | `failed_runs` | every [`FailedRun`](crate::FailedRun): diverged, failed, missing |
//! | `costs` | for each arm with an evaluation at the baseline's tokens: `arm`, `mean` and `seeds` ([`LedgerCosts`](crate::LedgerCosts)) |
//! | `sweep` | [`SweepFinding`](crate::SweepFinding): what came of looking for a learning rate for each arm; `null` without one |
//! | `fairness` | what is to be said of the arms' learning rates, in words |
//! | `suites` | a [`SuiteFigure`](crate::SuiteFigure) for each number of a suite that runs were put to, by arm and budget; absent without suites |
//! | `shared` | [`Shared`](crate::Shared): what was not trained a second time, since arms had it in common |
//! | `skipped` | every [`SkippedSteps`](crate::SkippedSteps): finished runs that have skipped steps; left out where there are none |

mod json;
mod markdown;
mod page;
mod sections;
mod terminal;

use crate::{EvaluationPoint, Judgement, RunCurve};
pub(crate) use page::Page;

/// For the terminal: aligned tables, at most 110 columns, no colour.
pub fn to_terminal(judgement: &Judgement) -> String {
    terminal::render(judgement)
}

/// Several studies for the terminal, an arm a line.
pub fn side_by_side(judgements: &[Judgement]) -> String {
    terminal::side_by_side(judgements)
}

/// `report.md`.
pub fn to_markdown(judgement: &Judgement) -> String {
    markdown::render(judgement)
}

/// `curves.csv`: every evaluation of every run that finished, a line each.
pub fn to_csv(curves: &[RunCurve]) -> String {
    let mut text = "arm,budget,seed,step,tokens,flops,flops_weight_matmul,flops_li2024,wall_seconds,joules,loss_nats_per_token\n".to_owned();
    for RunCurve { arm, budget, seed, points, .. } in curves {
        for point in points {
            let EvaluationPoint { step, tokens, .. } = point;
            // Whole numbers: for people they are rounded.
            let [flops, weight_matmul, li2024] =
                [point.flops, point.flops_weight_matmul, point.flops_li2024].map(|flops| flops.0);
            let (seconds, loss) = (point.wall_seconds, point.loss_nats_per_token);
            let joules = point.joules.map_or_else(String::new, |joules| joules.to_string());
            // Names of arms and budgets are names of folders: they need no quotes.
            text.push_str(&format!(
                "{arm},{budget},{seed},{step},{tokens},{flops},{weight_matmul},{li2024},{seconds},{joules},{loss}\n"
            ));
        }
    }
    text
}

/// `report.json`.
pub fn to_json(judgement: &Judgement) -> String {
    json::render(judgement)
}

#[cfg(test)]
mod tests;
