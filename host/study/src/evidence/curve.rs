//! What a run measured, evaluation by evaluation, and how to read such a curve at a point. Comparing two
//! curves is the verdict's; reading them from files is done in `results.rs`.

use engine::{Flops, Step, Tokens};

/// One evaluation, with all that the run had cost until then.
#[derive(Clone, Debug, PartialEq)]
pub struct EvaluationPoint {
    /// Optimizer steps done.
    pub step: Step,
    /// Tokens trained on.
    pub tokens: Tokens,
    /// The `exact` ledger. Comparisons rest on it.
    pub flops: Flops,
    /// The `weight_matmul` ledger.
    pub flops_weight_matmul: Flops,
    /// The `li2024` ledger.
    pub flops_li2024: Flops,
    /// Training time.
    pub wall_seconds: f64,
    /// What the machine has used in that time; `None` where it was not measured.
    pub joules: Option<f64>,
    /// Validation loss; not finite where the run diverged.
    pub loss_nats_per_token: f64,
    /// Hash of all training batches consumed until here.
    pub batches_sha256: String,
}

/// All evaluations of one run, in the order in which they were made.
#[derive(Clone, Debug, PartialEq)]
pub struct RunCurve {
    /// The arm that it belongs to.
    pub arm: String,
    /// What it was to train for, by name: with a decaying rate an arm has one run for each budget.
    pub budget: String,
    /// Its seed.
    pub seed: u64,
    /// Whether nothing ran beside it: its seconds and joules are compared only then.
    pub alone: bool,
    /// The step from which on it trained what it trains in the end; `None` where nothing ever changed.
    pub last_phase_at: Option<Step>,
    /// Its evaluations, tokens and costs ascending.
    pub points: Vec<EvaluationPoint>,
}

/// What is paid on the way to a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// The exact ledger.
    ExactFlops,
    /// Tokens trained on.
    Tokens,
    /// Training time, of runs that were alone.
    Seconds,
    /// What the machine used, likewise.
    Joules,
}

impl EvaluationPoint {
    /// What had been paid.
    pub fn cost(&self, cost: Cost) -> f64 {
        match cost {
            Cost::ExactFlops => self.flops.as_f64(),
            Cost::Tokens => self.tokens.0 as f64,
            Cost::Seconds => self.wall_seconds,
            Cost::Joules => self.joules.unwrap_or(f64::NAN),
        }
    }
}

/// The budget of an arm's runs that goes furthest: a shorter one with a decaying rate is another run.
pub(crate) fn furthest_budget<'a>(runs_of_an_arm: impl Iterator<Item = &'a RunCurve>) -> Option<&'a str> {
    let end = |curve: &&RunCurve| curve.last().map(|point| point.flops);
    runs_of_an_arm.max_by_key(end).map(|curve| curve.budget.as_str())
}

impl RunCurve {
    /// Its folder below `runs/`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}/seed-{}", self.arm, self.budget, self.seed)
    }

    /// Whether that cost was measured, and is the run's own.
    pub fn knows(&self, cost: Cost) -> bool {
        match cost {
            Cost::ExactFlops | Cost::Tokens => true,
            Cost::Seconds => self.alone,
            Cost::Joules => self.alone && self.points.iter().all(|point| point.joules.is_some()),
        }
    }

    /// The last evaluation.
    pub fn last(&self) -> Option<&EvaluationPoint> {
        self.points.last()
    }

    /// The evaluation after exactly so many tokens; nothing is interpolated.
    pub fn at_tokens(&self, tokens: Tokens) -> Option<&EvaluationPoint> {
        let found = self.points.binary_search_by_key(&tokens, |point| point.tokens).ok()?;
        Some(&self.points[found])
    }

    /// The last evaluation that exact FLOPs of `budget` pay for.
    pub fn last_within(&self, budget: Flops) -> Option<&EvaluationPoint> {
        self.points.iter().rev().find(|point| point.flops <= budget)
    }

    /// What it cost until the loss was first `loss` or lower: linear between the evaluation that was the
    /// first to show it and the one before. Where the very first evaluation shows it, its cost, which is
    /// then an upper bound. `None` where no evaluation does; nothing is extrapolated.
    pub fn first_crossing(&self, loss: f64, cost: Cost) -> Option<f64> {
        let reached = self.points.iter().position(|point| point.loss_nats_per_token <= loss)?;
        let after = &self.points[reached];
        let before = reached.checked_sub(1).map(|i| &self.points[i]);
        match before.filter(|before| before.loss_nats_per_token.is_finite()) {
            None => Some(after.cost(cost)),
            Some(before) => {
                let fall = before.loss_nats_per_token - after.loss_nats_per_token;
                let share = (before.loss_nats_per_token - loss) / fall;
                Some(before.cost(cost) + share * (after.cost(cost) - before.cost(cost)))
            }
        }
    }

    /// The loss after a cost, linear between the evaluations around it; `None` before the first, after the last, and where
    /// one of the two is no number.
    pub fn loss_at(&self, paid: f64, cost: Cost) -> Option<f64> {
        let after = self.points.partition_point(|point| point.cost(cost) < paid);
        let after_it = self.points.get(after)?;
        let loss = |at: usize| Some(self.points[at].loss_nats_per_token).filter(|loss| loss.is_finite());
        if after_it.cost(cost) == paid {
            return loss(after);
        }
        let before = after.checked_sub(1)?;
        let (from, to) = (self.points[before].cost(cost), after_it.cost(cost));
        let share = (paid - from) / (to - from);
        Some(loss(before)? + share * (loss(after)? - loss(before)?))
    }

    /// The first evaluation whose loss is not finite.
    pub fn divergence(&self) -> Option<&EvaluationPoint> {
        self.points.iter().find(|point| !point.loss_nats_per_token.is_finite())
    }

    /// The last evaluation after the same number of tokens (more than none) that both curves have.
    pub fn last_in_common<'a>(
        &'a self,
        other: &'a RunCurve,
    ) -> Option<(&'a EvaluationPoint, &'a EvaluationPoint)> {
        let trained = self.points.iter().rev().filter(|point| point.tokens > Tokens(0));
        trained.into_iter().find_map(|point| Some((point, other.at_tokens(point.tokens)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(losses: &[f64]) -> RunCurve {
        let point = |(i, &loss): (usize, &f64)| EvaluationPoint {
            step: Step(i as u64),
            tokens: Tokens(100 * i as u64),
            flops: Flops(1000 * (i * i) as u128),
            flops_weight_matmul: Flops(0),
            flops_li2024: Flops(0),
            wall_seconds: 0.0,
            joules: None,
            loss_nats_per_token: loss,
            batches_sha256: String::new(),
        };
        RunCurve {
            arm: "arm".into(),
            budget: "tokens".into(),
            seed: 0,
            alone: false,
            last_phase_at: None,
            points: losses.iter().enumerate().map(point).collect(),
        }
    }

    #[test]
    fn a_crossing_lies_between_two_evaluations() {
        let curve = curve(&[5.0, 4.0, 3.0, 3.5, 2.0]);
        assert_eq!(curve.first_crossing(3.25, Cost::Tokens), Some(175.0));
        assert_eq!(curve.first_crossing(3.25, Cost::ExactFlops), Some(1000.0 + 0.75 * 3000.0));
        assert_eq!(curve.first_crossing(3.0, Cost::Tokens), Some(200.0), "the first time, not the last");
        assert_eq!(curve.first_crossing(6.0, Cost::Tokens), Some(0.0), "not before the first evaluation");
        assert_eq!(curve.first_crossing(1.9, Cost::Tokens), None);
    }

    #[test]
    fn a_loss_that_is_no_number_reaches_nothing() {
        let curve = curve(&[5.0, f64::NAN, 3.0, f64::NAN]);
        assert_eq!(curve.first_crossing(4.0, Cost::Tokens), Some(200.0), "nothing to interpolate from");
        assert_eq!(curve.first_crossing(2.0, Cost::Tokens), None);
        assert_eq!(curve.divergence().map(|point| point.tokens), Some(Tokens(100)));
    }

    #[test]
    fn a_loss_is_read_between_two_evaluations_and_nowhere_else() {
        let curve = curve(&[5.0, 4.0, f64::NAN, 2.0, 1.0]);
        assert_eq!(curve.loss_at(100.0, Cost::Tokens), Some(4.0));
        assert_eq!(curve.loss_at(25.0, Cost::Tokens), Some(4.75));
        assert_eq!(curve.loss_at(250.0, Cost::ExactFlops), Some(4.75));
        assert_eq!(curve.loss_at(150.0, Cost::Tokens), None, "one of both is no number");
        assert_eq!(curve.loss_at(200.0, Cost::Tokens), None);
        assert_eq!(curve.loss_at(401.0, Cost::Tokens), None);
    }

    #[test]
    fn points_are_looked_up_exactly() {
        let curve = curve(&[5.0, 4.0, 3.0]);
        assert_eq!(curve.at_tokens(Tokens(100)).map(|point| point.step), Some(Step(1)));
        assert_eq!(curve.at_tokens(Tokens(99)), None);
        assert_eq!(curve.last_within(Flops(3999)).map(|point| point.step), Some(Step(1)));
        assert_eq!(curve.last_within(Flops(4000)).map(|point| point.step), Some(Step(2)));
        let longer = self::curve(&[5.0; 9]);
        assert_eq!(curve.last_in_common(&longer).map(|(point, _)| point.step), Some(Step(2)));
        assert_eq!(curve.last_in_common(&self::curve(&[5.0])), None, "before training all data is the same");
    }
}
