//! A judgement laid out: for the terminal, as Markdown, as JSON, as a page, its curves as CSV and SVG. Every renderer returns text,
//! which `folder.rs` writes into the study's folder. No number of a verdict is computed here.
//!
//! # `report.json`
//!
//! Stable keys; numbers at full precision; what is not known, or not a number, is `null`.
//!
//! | key | content |
//! | --- | --- |
//! | `study` | `format` (1), `name`, `baseline`, `seeds` |
//! | `arms` | an [`ArmRuns`](crate::ArmRuns) each, the baseline first: what became of its runs and where they ended; with it an [`ArmBeside`](crate::ArmBeside): what the finished ones tell |
//! | `verdict` | `overall` and, in `arms`, an [`ArmVerdict`](crate::ArmVerdict) with its `arm` for each |
//! | `comparisons` | for each arm `arm`, `token_matched` and `compute_matched` ([`LossDifference`](crate::LossDifference)), `cost_to_reach` ([`CostToReach`](crate::CostToReach)), `crossover` ([`Crossover`](crate::Crossover)), `continual` ([`Continual`](crate::Continual)); `null` where not planned |
//! | `failed_runs` | every [`FailedRun`](crate::FailedRun): diverged, failed, missing |
//! | `costs` | for each arm with an evaluation at the baseline's tokens: `arm`, `mean` and `seeds` ([`LedgerCosts`](crate::LedgerCosts)) |
//! | `sweep` | [`SweepFinding`](crate::SweepFinding): what came of looking for a learning rate for each arm; `null` without one |
//! | `fairness` | what is to be said of the arms' learning rates, in words |
//! | `suites` | a [`SuiteMean`](crate::SuiteMean) for each number of a suite that runs were put to, by arm and budget; absent without suites |
//! | `shared` | [`Shared`](crate::Shared): what was not trained a second time, since arms had it in common |
//! | `skipped` | every [`SkippedSteps`](crate::SkippedSteps): finished runs that have skipped steps; left out where there are none |

mod csv;
mod folder;
mod json;
mod markdown;
mod page;
mod sections;
mod side_by_side;
mod terminal;

use crate::Judgement;
pub use folder::{Report, report_folder};
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

/// `report.json`.
pub fn to_json(judgement: &Judgement) -> String {
    json::render(judgement)
}

#[cfg(test)]
mod tests;
