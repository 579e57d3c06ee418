//! Growth when the loss falls too slowly for what it costs: staged training's criterion (Shen et al., ICML 2022, arXiv
//! 2203.06211). Where the loss follows a power of compute, `d ln(loss) / d ln(FLOPs)` is that power; once it has come
//! up to a threshold, a deeper model does better with the same FLOPs, and the stack is repeated.
//!
//! The slope is that of least squares over the last losses of this depth, a window of a twentieth of the token budget
//! (ours; 8 to 1000 steps), and is not asked for in the first tenth of the budget at a depth. The threshold of -0.0575 and a rate that rises again over 150 steps are those of the
//! authors' code for growth in depth. It also copies AdamW's state, as here, and moves the learning rate's schedule to where
//! the deeper model would have come by itself; that takes constants fitted beforehand, and is not done here.
//!
//! Do embeddings and head freeze too? No: nothing is ever frozen.

use sapwood_plugin::{
    Above, Actions, Error, GrowthStrategy, Insert, LayerId, LossPoint, MomentsRule, Plan, PlannedPhase,
    Plugin, Result, RunFacts, Saved, ScheduleChange, StepContext,
};
use serde::{Deserialize, Serialize};

/// Depths, and when to go from one to the next.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "depths": [3, 6, 12] }]))]
struct Config {
    /// Depths from the first to the model's own, each a multiple of the one before.
    depths: Vec<usize>,
    /// The slope from which on the loss falls too slowly, negative (default, the authors': -0.0575).
    #[serde(default = "authors_threshold")]
    threshold: f64,
    /// Share of the token budget over which the slope is taken, above 0 and at most 0.5 (default, ours: 0.05).
    #[serde(default = "one_twentieth")]
    window_fraction: f64,
    /// Share of the token budget that each depth is trained for at least, 0 to 1: a loss falls slowly at first, and in the
    /// warm-up, without having anything to say of depth (default, ours: 0.1).
    #[serde(default = "one_tenth")]
    least_fraction: f64,
    /// Shares of the token budget at which it grows even if the loss still falls, one a growth (default: never).
    #[serde(default)]
    at_latest: Option<Vec<f64>>,
    /// Steps over which the learning rate rises again after each growth; 0 = none (default, the authors': 150).
    #[serde(default = "authors_rewarming")]
    rewarm_steps: u64,
}

fn authors_threshold() -> f64 {
    -0.0575
}

fn one_twentieth() -> f64 {
    0.05
}

fn one_tenth() -> f64 {
    0.1
}

fn authors_rewarming() -> u64 {
    150
}

/// Where the present depth began.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Began {
    step: u64,
    flops: f64,
}

struct SlopeTrigger {
    config: Config,
    window: usize,
    least_steps: u64,
    /// Steps at which it grows at the latest, one a growth.
    at_latest: Vec<u64>,
    began: Began,
}

impl Plugin for SlopeTrigger {
    type Config = Config;

    fn new(config: Config) -> Result<SlopeTrigger> {
        let Config { depths, threshold, window_fraction, least_fraction, at_latest, .. } = &config;
        let latest_fit = at_latest.as_ref().is_none_or(|shares| rise_by_growth(shares, depths.len()));
        let checks = [
            ("depths", are_multiples(depths), "at least two are needed, each a multiple of the one before"),
            ("threshold", *threshold < 0.0, "must be negative"),
            (
                "window_fraction",
                (1e-9..=0.5).contains(window_fraction),
                "must lie above 0, and at most at 0.5",
            ),
            ("least_fraction", (0.0..1.0).contains(least_fraction), "must be 0 or more, and below 1"),
            ("at_latest", latest_fit, "must be rising shares between 0 and 1, one a growth"),
        ];
        if let Some((field, _, wanted)) = checks.into_iter().find(|(_, holds, _)| !holds) {
            return Err(Error::new(wanted).in_field(field));
        }
        Ok(SlopeTrigger { config, window: 0, least_steps: 0, at_latest: Vec::new(), began: Began::default() })
    }
}

fn are_multiples(depths: &[usize]) -> bool {
    let is_one = |pair: &[usize]| pair[0] > 0 && pair[1] > pair[0] && pair[1].is_multiple_of(pair[0]);
    depths.len() > 1 && depths.windows(2).all(is_one)
}

fn rise_by_growth(shares: &[f64], depths: usize) -> bool {
    let inside = shares.iter().all(|share| *share > 0.0 && *share < 1.0);
    shares.len() + 1 == depths && inside && shares.windows(2).all(|pair| pair[0] < pair[1])
}

impl GrowthStrategy for SlopeTrigger {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (first, last) = (self.config.depths[0], self.config.depths[self.config.depths.len() - 1]);
        if last != run.model.layers {
            let wrong = format!("the last depth is {last}, but the model has {} layers", run.model.layers);
            return Err(Error::new(wrong).in_field("depths"));
        }
        let steps = run.budget.reference_steps as f64;
        self.window = ((self.config.window_fraction * steps) as usize).clamp(8, 1000);
        self.least_steps = (self.config.least_fraction * steps).round() as u64;
        let shares = self.config.at_latest.iter().flatten();
        self.at_latest = shares.map(|share| (share * steps).round() as u64).collect();
        self.began = Began::default();
        let phase = PlannedPhase {
            label: label(first),
            first_step: 0,
            steps: None,
            depth: first,
            trains: "all; deeper when the loss falls too slowly".into(),
        };
        Ok(Plan { slots: vec!["new_blocks".into()], phases: vec![phase], ..Plan::fixed_depth(first, last) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let depth = context.blocks.len();
        if context.step == 0 {
            actions.phase(&label(depth))?;
        }
        let stage = self.config.depths.iter().position(|&other| other == depth);
        let Some((stage, &next)) = stage.and_then(|stage| Some((stage, self.config.depths.get(stage + 1)?)))
        else {
            return Ok(());
        };
        let slope = self.slope(context);
        let is_late = self.at_latest.get(stage).is_some_and(|&latest| context.step >= latest);
        if is_late || slope.is_some_and(|slope| slope > self.config.threshold) {
            self.grow(context, next, actions)?;
            if let Some(slope) = slope.filter(|slope| slope.is_finite()) {
                actions.metric("slope-trigger/slope", slope)?;
            }
        }
        Ok(())
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.began)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.began = saved.read(1)?;
        Ok(())
    }
}

impl SlopeTrigger {
    /// Of the newest losses of this depth, once they fill the window and it is time.
    fn slope(&self, context: &StepContext<'_>) -> Option<f64> {
        let Began { step, flops } = self.began;
        let first_of_depth = context.losses.partition_point(|loss| loss.step < step);
        let losses = &context.losses[first_of_depth..];
        let newest = &losses[losses.len().checked_sub(self.window)?..];
        let steps = context.step.checked_sub(step).filter(|steps| *steps >= self.least_steps.max(1))?;
        // Within a depth every step costs the same.
        let flops_per_step = (context.flops - flops) / steps as f64;
        let spent = |loss: &LossPoint| flops + flops_per_step * (loss.step - step + 1) as f64;
        Some(slope(newest.iter().map(|loss| (libm::log(spent(loss)), libm::log(loss.loss_nats_per_token)))))
    }
    fn grow(&mut self, context: &StepContext<'_>, depth: usize, actions: &mut Actions<'_>) -> Result<()> {
        let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let sources = stack.repeat((depth / stack.len().max(1)).saturating_sub(1));
        actions.insert(Insert {
            above: stack.last().map_or(Above::Embedding, |&top| Above::Layer(top)),
            count: sources.len(),
            slot: "new_blocks".into(),
            sources,
            moments: MomentsRule::CopyFromSource,
        })?;
        actions.phase(&label(depth))?;
        if self.config.rewarm_steps > 0 {
            actions.schedule(ScheduleChange::Rewarm(self.config.rewarm_steps))?;
        }
        self.began = Began { step: context.step, flops: context.flops };
        Ok(())
    }
}

fn label(depth: usize) -> String {
    format!("depth{depth}")
}

/// Of the line through these points by least squares; no number where a point is none.
fn slope(points: impl Iterator<Item = (f64, f64)> + Clone) -> f64 {
    let n = points.clone().count() as f64;
    let (x_sum, y_sum) = points.clone().fold((0.0, 0.0), |(x_sum, y_sum), (x, y)| (x_sum + x, y_sum + y));
    let (x_mean, y_mean) = (x_sum / n, y_sum / n);
    let (above, below) = points.fold((0.0, 0.0), |(above, below), (x, y)| {
        let x = x - x_mean;
        (above + x * (y - y_mean), below + x * x)
    });
    above / below
}

sapwood_plugin::export! {
    strategy SlopeTrigger {
        id: "sapwood/slope-trigger",
        summary: "deeper when the loss falls too slowly for its compute (arXiv 2203.06211)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::Action;
    use sapwood_plugin::testing::{SimulatedRun, Transcript, plugin};

    use super::{SlopeTrigger, slope};

    fn make(config: &str) -> sapwood_plugin::Result<SlopeTrigger> {
        plugin(config)
    }

    fn drive(run: &SimulatedRun, config: &str) -> Transcript {
        run.drive(&mut make(config).expect("a good configuration")).expect("a run that it takes")
    }

    #[test]
    fn the_slope_of_a_power_law_is_its_power() {
        let points = (1..40).map(|c| (f64::from(c).ln(), 2.0 * f64::from(c).ln() - 7.0));
        assert!((slope(points) - 2.0).abs() < 1e-12);
        assert!(slope([(0.0, 1.0), (1.0, f64::NAN)].into_iter()).is_nan());
    }

    /// The simulated loss of one layer is `2 + k / (1 + s / 20)`, so its slope is known at every step.
    #[test]
    fn it_grows_where_the_slope_comes_up_to_the_threshold() {
        let run = SimulatedRun::new(2, 2000);
        let k = 256f64.ln() - 2.0;
        let known = |s: f64| -s * (k / 20.0) / (1.0 + s / 20.0).powi(2) / (2.0 + k / (1.0 + s / 20.0));
        // From step 100 on the slope rises for good.
        let crossing = (100..2000usize).find(|&s| known(s as f64) > -0.15).expect("it comes up to it");
        assert!(crossing > 120, "{crossing}");
        let config =
            r#"{ "depths": [1, 2], "threshold": -0.15, "window_fraction": 0.01, "least_fraction": 0.05 }"#;
        let transcript = drive(&run, config);
        let grown = transcript.depths.iter().position(|&depth| depth == 2).expect("it has grown");
        // The middle of a window of 20 steps that ends 2 steps before.
        assert!(grown.abs_diff(crossing + 12) <= 3, "{grown}, and the slope crosses at {crossing}");
    }

    /// The slopes that were told at two growths which came because it was time.
    fn told_slopes(at_latest: &str) -> Vec<f64> {
        let config = format!(
            r#"{{ "depths": [1, 2, 4], "threshold": -1e-9, "window_fraction": 0.01, "least_fraction": 0, "at_latest": {at_latest} }}"#
        );
        let decisions = drive(&SimulatedRun::new(4, 2000), &config).decisions;
        let requests = decisions.into_iter().flat_map(|decision| decision.taken);
        let told = requests.filter_map(|request| match request {
            Action::Metric { value, .. } => Some(value),
            _ => None,
        });
        told.collect()
    }

    #[test]
    fn the_slope_is_over_all_compute_but_this_depths_losses_alone() {
        let slopes = told_slopes("[0.5, 0.75]");
        // A step costs 20992 units at one block and 33280 at two; the window's middle is step 1488.5.
        let steps = 1000.0 * 20_992.0 / 33_280.0 + 489.5;
        let (k, s) = (256f64.ln() - 2.0, 1.0 + 1488.5 / 20.0);
        let known = -steps * (k / 20.0) / (s * s) / (1.5 + k / s);
        assert!((slopes[1] / known - 1.0).abs() < 0.01, "{slopes:?}, known {known}");
        // Ten steps after the first growth there are too few losses of two blocks.
        assert_eq!(told_slopes("[0.5, 0.505]"), [slopes[0]]);
    }

    #[test]
    fn it_copies_the_stack_with_its_moments_and_warms_up_again() {
        let run = SimulatedRun { loss_from_step: Some((0, 1.0)), ..SimulatedRun::new(4, 100) };
        let wanted = "starts with 1 of at most 4 blocks
before step 0: phase `depth1`
before step 10: insert 1 above 0 for new_blocks from 0; phase `depth2`; schedule Rewarm(150); metric slope-trigger/slope = 0
before step 20: insert 2 above 1 for new_blocks from 0 1; phase `depth4`; schedule Rewarm(150); metric slope-trigger/slope = 0
ends after 100 steps with blocks 0 1 2 3
";
        assert_eq!(drive(&run, r#"{ "depths": [1, 2, 4] }"#).to_string(), wanted);
    }

    #[test]
    fn a_loss_that_falls_or_is_no_number_does_not_let_it_grow_before_its_time() {
        for loss in [None, Some((0, -1.0))] {
            let run = SimulatedRun { loss_from_step: loss, ..SimulatedRun::new(4, 100) };
            let never = r#"{ "depths": [1, 2, 4], "least_fraction": 0.2 }"#;
            assert_eq!(drive(&run, never).layers.len(), 1);
            let at_latest = r#"{ "depths": [1, 2, 4], "least_fraction": 0.2, "at_latest": [0.3, 0.6] }"#;
            let depths = drive(&run, at_latest).depths;
            assert_eq!((depths[29], depths[30], depths[59], depths[60]), (1, 2, 2, 4));
        }
    }

    /// Slopes are taken over compute since the beginning of the depth, which is its state.
    #[test]
    fn interrupted_anywhere_it_decides_as_if_nothing_had_happened() {
        let config = r#"{ "depths": [1, 2, 4, 8], "threshold": -0.25, "window_fraction": 0.05 }"#;
        let run = SimulatedRun::new(8, 400);
        let whole = drive(&run, config);
        assert_eq!(whole.layers.len(), 8, "{whole}");
        for step in (0..400).step_by(9) {
            let resumed = run.drive_interrupted(|| make(config), step).expect("a state to go on from");
            assert_eq!(resumed, whole, "interrupted before step {step}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (config, field) in [
            (r#"{ "depths": [4] }"#, "depths"),
            (r#"{ "depths": [2, 3] }"#, "depths"),
            (r#"{ "depths": [0, 4] }"#, "depths"),
            (r#"{ "depths": [2, 4], "threshold": 0 }"#, "threshold"),
            (r#"{ "depths": [2, 4], "window_fraction": 0.6 }"#, "window_fraction"),
            (r#"{ "depths": [2, 4], "least_fraction": 1 }"#, "least_fraction"),
            (r#"{ "depths": [2, 4], "at_latest": [0.2, 0.4] }"#, "at_latest"),
            (r#"{ "depths": [2, 4], "at_latest": [1] }"#, "at_latest"),
        ] {
            let error = make(config).map(|_| ()).expect_err("refused");
            assert_eq!(error.field(), Some(field), "{config}");
        }
        let mut shallow = make(r#"{ "depths": [2, 4] }"#).expect("a good configuration");
        let error = SimulatedRun::new(6, 100).drive(&mut shallow).expect_err("six layers");
        assert_eq!(error.field(), Some("depths"));
    }
}
