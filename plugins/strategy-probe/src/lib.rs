//! Probe and choose: where the model is to grow, several ways to do it are tried out for some steps, each from the same
//! state and on the same data, and the one whose loss is lowest towards their end is taken (LAG, Karp et al., arXiv
//! 2406.02469: early dynamics tell better than the loss right after growth which way is best in the end).
//!
//! The stack is doubled at stated shares of the token budget; candidates differ in where the copies go, in their
//! initializer and in what becomes of AdamW. The host puts everything back after each, so that the winner begins where it
//! began in the probe. What probes cost is charged to the run: at equal compute it has that much less to train with. It
//! takes a host that knows revision 2 of the strategy's interface. Steps and the share of them that counts are ours.
//!
//! Do embeddings and head freeze too? No: nothing is ever frozen.

use std::collections::BTreeSet;

use sapwood_plugin::{
    Above, Action, Actions, Error, Event, GrowthStrategy, Insert, LayerId, MomentsRule, OptimizerChange,
    OptimizerRule, Plan, PlannedPhase, Plugin, Probe, Result, RunFacts, StepContext, Which, check_shares,
    stage_starts,
};
use serde::Deserialize;

/// When the stack is doubled, and which ways are tried out.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{
    "fractions": [0.25, 0.75],
    "candidates": [
        { "order": "stack", "slot": "new_blocks", "optimizer": "copy" },
        { "order": "interleave", "slot": "new_blocks", "optimizer": "copy" },
    ],
}]))]
struct Config {
    /// Shares of the token budget that each depth is trained for, from the shallowest to the whole model; they sum to 1.
    fractions: Vec<f64>,
    /// The ways that are tried out, 2 to 16.
    candidates: Vec<Candidate>,
    /// Steps that each is tried out for (default, ours: 200).
    #[serde(default = "two_hundred")]
    probe_steps: u64,
    /// Share of these steps, from the end, over which losses are averaged (default, ours: 0.25).
    #[serde(default = "one_quarter")]
    judged_fraction: f64,
}

fn two_hundred() -> u64 {
    200
}

fn one_quarter() -> f64 {
    0.25
}

/// A way to double the stack.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Candidate {
    /// Where copies go.
    order: Order,
    /// The role of the initializer that fills them in: the study names one for each (`initializers.SLOT`).
    slot: String,
    /// AdamW's moments and counters.
    optimizer: OptimizerState,
}

/// Where copies go.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// The stack stands on itself: 0 1 becomes 0 1 0 1.
    Stack,
    /// Each block stands on itself: 0 1 becomes 0 0 1 1.
    Interleave,
}

/// AdamW's moments and counters.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum OptimizerState {
    /// All begin anew.
    Reset,
    /// New blocks begin without, all others go on.
    Zero,
    /// New blocks take over those of their sources, all others go on.
    Copy,
}

struct ProbeAndChoose {
    config: Config,
    /// First steps of all depths but the shallowest.
    grow_at: Vec<u64>,
    /// While a probe is under way: the label of the depth to come, and what each candidate asks for.
    tried: Option<(String, Vec<Vec<Action>>)>,
}

impl Plugin for ProbeAndChoose {
    type Config = Config;

    fn new(config: Config) -> Result<ProbeAndChoose> {
        let Config { fractions, candidates, probe_steps, judged_fraction } = &config;
        let checks = [
            // 2^16 is more than the layers of any model.
            ("fractions", (2..=17).contains(&fractions.len()), "there must be 2 to 17 shares, one a depth"),
            ("candidates", (2..=16).contains(&candidates.len()), "2 to 16 ways are tried out"),
            ("candidates", candidates.iter().all(|one| !one.slot.is_empty()), "every slot needs a name"),
            ("probe_steps", (1..=100_000).contains(probe_steps), "must be 1 to 100000"),
            (
                "judged_fraction",
                *judged_fraction > 0.0 && *judged_fraction <= 1.0,
                "must lie above 0, and at most at 1",
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, wanted)) => Err(Error::new(wanted).in_field(field)),
            None => {
                check_shares(&config.fractions).map_err(|error| error.in_field("fractions"))?;
                Ok(ProbeAndChoose { config, grow_at: Vec::new(), tried: None })
            }
        }
    }
}

impl GrowthStrategy for ProbeAndChoose {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let doublings = self.config.fractions.len() - 1;
        let (layers, factor) = (run.model.layers, 1 << doublings);
        if layers % factor != 0 {
            let wrong =
                format!("{doublings} doublings make {factor} of one, which does not divide {layers} layers");
            return Err(Error::new(wrong).in_field("fractions"));
        }
        let starts = stage_starts(&self.config.fractions, run.budget.reference_steps);
        self.grow_at = starts.map_err(|error| error.in_field("fractions"))?.split_off(1);
        let first = layers / factor;
        let phase = |done: usize| {
            let first_step = if done == 0 { 0 } else { self.grow_at[done - 1] };
            let steps = self.grow_at.get(done).map(|end| end - first_step);
            let depth = first << done;
            PlannedPhase { label: label(depth), first_step, steps, depth, trains: "all".into() }
        };
        let slots: BTreeSet<String> = self.config.candidates.iter().map(|one| one.slot.clone()).collect();
        Ok(Plan {
            slots: slots.into_iter().collect(),
            phases: (0..=doublings).map(phase).collect(),
            ..Plan::fixed_depth(first, layers)
        })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            actions.phase(&label(context.blocks.len()))?;
        }
        if self.grow_at.contains(&context.step) {
            let stack: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
            let candidates: Vec<Vec<Action>> =
                self.config.candidates.iter().map(|one| one.requests(&stack)).collect();
            self.tried = Some((label(2 * stack.len()), candidates.clone()));
            actions.probe(Probe { candidates, steps: self.config.probe_steps })?;
        }
        Ok(())
    }

    fn on_event(&mut self, event: &Event, actions: &mut Actions<'_>) -> Result<()> {
        let (Event::Probed(probed), Some((label, tried))) = (event, self.tried.take()) else { return Ok(()) };
        let judged = (self.config.judged_fraction * self.config.probe_steps as f64).round() as usize;
        let means = probed.mean_of_last(judged);
        let Some(chosen) = lowest(&means).filter(|&chosen| chosen < tried.len()) else {
            return Err(Error::new("no way to grow that was tried out came to a loss that is a number"));
        };
        for (number, mean) in means.iter().enumerate().filter(|(_, mean)| mean.is_finite()) {
            actions.metric(&format!("probe/loss-{number}"), *mean)?;
        }
        actions.metric("probe/chosen", chosen as f64)?;
        for request in &tried[chosen] {
            actions.push(request.clone())?;
        }
        actions.phase(&label)
    }

    // A probe is asked for and told of before the same step: between steps there is nothing to keep.
    sapwood_plugin::stateless!();
}

impl Candidate {
    /// What doubles that stack in this way.
    fn requests(&self, stack: &[LayerId]) -> Vec<Action> {
        let runs = match self.order {
            Order::Stack => stack.chunks(stack.len().max(1)),
            Order::Interleave => stack.chunks(1),
        };
        let copied = self.optimizer == OptimizerState::Copy;
        let moments = if copied { MomentsRule::CopyFromSource } else { MomentsRule::Zero };
        let insert = |sources: &[LayerId]| {
            Action::Insert(Insert {
                above: sources.last().map_or(Above::Embedding, |&top| Above::Layer(top)),
                count: sources.len(),
                slot: self.slot.clone(),
                sources: sources.to_vec(),
                moments,
            })
        };
        let mut requests: Vec<Action> = runs.map(insert).collect();
        if self.optimizer == OptimizerState::Reset {
            requests
                .push(Action::Optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset }));
        }
        requests
    }
}

/// The first of the lowest; `None` where none is finite.
fn lowest(means: &[f64]) -> Option<usize> {
    let finite = means.iter().enumerate().filter(|(_, mean)| mean.is_finite());
    finite.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(number, _)| number)
}

fn label(depth: usize) -> String {
    format!("depth{depth}")
}

sapwood_plugin::export! {
    strategy ProbeAndChoose {
        id: "sapwood/probe",
        summary: "several ways to double the stack are tried out, the best is taken (LAG, arXiv 2406.02469)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::{ProbeAndChoose, lowest};

    const THREE: &str = r#"{ "fractions": [0.25, 0.75], "probe_steps": 8, "candidates": [
        { "order": "stack", "slot": "copied", "optimizer": "copy" },
        { "order": "interleave", "slot": "copied", "optimizer": "reset" },
        { "order": "stack", "slot": "fresh", "optimizer": "zero" }
    ] }"#;

    fn run(candidate_losses: &[f64]) -> SimulatedRun {
        SimulatedRun { candidate_losses: candidate_losses.to_vec(), ..SimulatedRun::new(4, 40) }
    }

    fn drive(candidate_losses: &[f64]) -> String {
        let mut strategy: ProbeAndChoose = plugin(THREE).expect("a good configuration");
        run(candidate_losses).drive(&mut strategy).expect("a depth that fits").to_string()
    }

    #[test]
    fn the_candidate_with_the_lowest_loss_is_taken() {
        let said = drive(&[0.5, 0.25, 0.375]);
        let wanted = "starts with 2 of at most 4 blocks
before step 0: phase `depth2`
before step 10: probe for 8 steps [insert 2 above 1 for copied from 0 1] [insert 1 above 0 for copied from 0; insert 1 above 1 for copied from 1; optimizer Reset of All] [insert 2 above 1 for fresh from 0 1]
";
        assert!(said.starts_with(wanted), "{said}");
        let taken = "metric probe/chosen = 1; insert 1 above 0 for copied from 0; insert 1 above 1 for copied from 1; optimizer Reset of All; phase `depth4`\n";
        assert!(said.contains(taken), "{said}");
        assert!(
            drive(&[0.0, 0.25, -0.5])
                .contains("metric probe/chosen = 2; insert 2 above 1 for fresh from 0 1;")
        );
        assert!(drive(&[]).contains("metric probe/chosen = 0;"), "of equals the first");
    }

    #[test]
    fn one_that_came_to_no_number_is_not_taken() {
        assert_eq!(lowest(&[f64::INFINITY, 2.0, f64::NAN, 1.5]), Some(3));
        assert_eq!(lowest(&[f64::INFINITY, f64::NAN]), None);
    }

    /// Probes cost: with a budget in FLOPs fewer steps are left.
    #[test]
    fn probes_are_paid_from_the_budget() {
        let steps = |probe_steps: u64| {
            let config = THREE.replace("\"probe_steps\": 8", &format!("\"probe_steps\": {probe_steps}"));
            let mut strategy: ProbeAndChoose = plugin(&config).expect("a good configuration");
            let mut run = run(&[]);
            run.facts.budget.flops = Some(1e9);
            run.drive(&mut strategy).expect("a depth that fits").depths.len()
        };
        assert!(steps(1) > steps(8) + 10, "{} and {}", steps(1), steps(8));
    }

    #[test]
    fn interrupted_anywhere_it_decides_as_if_nothing_had_happened() {
        let run = run(&[0.5, 0.25]);
        let whole =
            run.drive(&mut plugin::<ProbeAndChoose>(THREE).expect("good")).expect("a depth that fits");
        for step in 0..40 {
            let resumed = run.drive_interrupted(|| plugin::<ProbeAndChoose>(THREE), step);
            assert_eq!(resumed.expect("nothing to go on from"), whole, "interrupted before step {step}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        let one = r#"{ "order": "stack", "slot": "s", "optimizer": "zero" }"#;
        let config = |fractions: &str, candidates: &str, rest: &str| {
            format!(r#"{{ "fractions": {fractions}, "candidates": [{candidates}]{rest} }}"#)
        };
        let two = format!("{one}, {one}");
        for (config, field) in [
            (config("[1.0]", &two, ""), "fractions"),
            (config("[0.5, 0.4]", &two, ""), "fractions"),
            (config("[1.5, -0.5]", &two, ""), "fractions"),
            (config("[0.5, 0.5]", one, ""), "candidates"),
            (config("[0.5, 0.5]", &two.replace("\"s\"", "\"\""), ""), "candidates"),
            (config("[0.5, 0.5]", &two, ", \"probe_steps\": 0"), "probe_steps"),
            (config("[0.5, 0.5]", &two, ", \"judged_fraction\": 0"), "judged_fraction"),
        ] {
            let error = plugin::<ProbeAndChoose>(&config).map(|_| ()).expect_err("refused");
            assert_eq!(error.field(), Some(field), "{config}");
        }
        let mut strategy: ProbeAndChoose = plugin(THREE).expect("the model is not known yet");
        let error = SimulatedRun::new(3, 40).drive(&mut strategy).expect_err("three layers");
        assert_eq!(error.field(), Some("fractions"));
    }
}
