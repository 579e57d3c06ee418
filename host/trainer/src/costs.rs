//! What a run has cost so far. The trainer counts; no plugin reports its own.

pub(crate) mod budget;
pub(crate) mod energy;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use engine::{Entry, FlopTerms, Flops, ModelShape, StepPlan, Tokens, plan_flops, step_flops_li2024};
use plugin_host::TimeSpent;
use plugin_host::api::Batch;
use serde::{Deserialize, Serialize};

use crate::course::Course;

/// What a run has cost so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Costs {
    /// Tokens trained on.
    pub tokens: Tokens,
    /// Exact FLOPs by term.
    pub flops: FlopTerms,
    /// FLOPs by the paper's cost model.
    pub flops_li2024: Flops,
    /// What probes took of these FLOPs, and the tokens that they read, which are not among those above.
    #[serde(default)]
    pub probes: ProbeCosts,
    /// Wall time by purpose, all sittings together.
    pub wall: WallTime,
    /// Whether nothing else of the study ran beside it, in any sitting: seconds and joules are its own only then.
    #[serde(default)]
    pub alone: bool,
    /// What the machine used while it trained; `None` where it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
}

/// What the ways to go on have cost that were tried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeCosts {
    /// Tokens.
    pub tokens: Tokens,
    /// Exact FLOPs.
    pub flops: Flops,
}

/// Wall time by purpose, in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WallTime {
    /// Forward, backward, update.
    pub training_seconds: f64,
    /// Waiting for batches.
    pub data_seconds: f64,
    /// Evaluations.
    pub evaluation_seconds: f64,
    /// Edits of the stack, with their audits, and audits of phases.
    pub growth_seconds: f64,
    /// Ways to go on that were tried out.
    #[serde(default)]
    pub probing_seconds: f64,
    /// Calls of the strategy.
    pub plugin_seconds: f64,
    /// Checkpoints.
    pub checkpoint_seconds: f64,
    /// Suites put to the model.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub suite_seconds: f64,
    /// What the calls of each plugin took of all that, by its id; and beside it, under `ID (shadow)`, what shadows took.
    #[serde(default)]
    pub plugins: BTreeMap<String, TimeSpent>,
}

impl WallTime {
    /// The mean of several runs' times; `None` of none.
    pub fn mean(runs: &[WallTime]) -> Option<WallTime> {
        if runs.is_empty() {
            return None;
        }
        let mean = |of: fn(&WallTime) -> f64| runs.iter().map(of).sum::<f64>() / runs.len() as f64;
        Some(WallTime {
            training_seconds: mean(|wall| wall.training_seconds),
            data_seconds: mean(|wall| wall.data_seconds),
            evaluation_seconds: mean(|wall| wall.evaluation_seconds),
            growth_seconds: mean(|wall| wall.growth_seconds),
            probing_seconds: mean(|wall| wall.probing_seconds),
            plugin_seconds: mean(|wall| wall.plugin_seconds),
            checkpoint_seconds: mean(|wall| wall.checkpoint_seconds),
            suite_seconds: mean(|wall| wall.suite_seconds),
            plugins: mean_of_plugins(runs),
        })
    }

    /// All of it.
    pub fn total_seconds(&self) -> f64 {
        self.training_seconds
            + self.data_seconds
            + self.evaluation_seconds
            + self.growth_seconds
            + self.probing_seconds
            + self.plugin_seconds
            + self.checkpoint_seconds
            + self.suite_seconds
    }
}

/// Runs without suites say nothing of them.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_nothing(seconds: &f64) -> bool {
    *seconds == 0.0
}

/// A run that never called a plugin counts as one that spent no time in it.
fn mean_of_plugins(runs: &[WallTime]) -> BTreeMap<String, TimeSpent> {
    let mut sums: BTreeMap<String, TimeSpent> = BTreeMap::new();
    for (id, spent) in runs.iter().flat_map(|wall| &wall.plugins) {
        *sums.entry(id.clone()).or_default() += *spent;
    }
    for spent in sums.values_mut() {
        spent.calls = (spent.calls as f64 / runs.len() as f64).round() as u64;
        spent.seconds /= runs.len() as f64;
    }
    sums
}

/// What one step costs as long as nothing is decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepCost {
    /// Tokens.
    pub tokens: Tokens,
    /// Exact, by term.
    pub flops: FlopTerms,
    /// By the paper's cost model.
    pub flops_li2024: Flops,
}

impl StepCost {
    /// Of a step on that course.
    pub fn of(shape: &ModelShape, course: &Course) -> StepCost {
        let (layers, Batch { sequences, length }) = (course.layers(), course.batch);
        let execution = course.execution_of_step();
        let shape = &course.shape(shape);
        let plan = StepPlan { execution, ..StepPlan::new(course.trainable.clone(), sequences) };
        let of_pass = |pass: &Entry| {
            step_flops_li2024(shape, &[pass.layer], &course.trainable, pass.active(sequences), length)
        };
        let passes = plan.execution.running(&layers);
        StepCost {
            tokens: Tokens(course.batch.tokens()),
            flops: plan_flops(shape, &layers, &plan, sequences, length),
            flops_li2024: passes.iter().map(of_pass).fold(Flops(0), |sum, flops| sum + flops),
        }
    }
}

/// What probes add to the costs of a run, at one moment of it.
#[derive(Clone, Copy)]
pub(crate) struct SpentFlops {
    flops: FlopTerms,
    flops_li2024: Flops,
    probes: ProbeCosts,
}

impl Costs {
    /// The FLOPs that are spent now, and what probes had of them.
    pub(crate) fn spent_flops(&self) -> SpentFlops {
        SpentFlops { flops: self.flops, flops_li2024: self.flops_li2024, probes: self.probes }
    }

    /// Has the FLOPs of another moment.
    pub(crate) fn set_spent_flops(&mut self, spent: SpentFlops) {
        SpentFlops { flops: self.flops, flops_li2024: self.flops_li2024, probes: self.probes } = spent;
    }

    /// One step more of something that is tried out.
    pub fn add_probe_step(&mut self, step: &StepCost) {
        self.flops += step.flops;
        self.flops_li2024 += step.flops_li2024;
        self.probes.tokens += step.tokens;
        self.probes.flops += step.flops.total();
    }

    /// What a step has used; once it is not known of one, the sum is not known any more.
    pub(crate) fn add_joules(&mut self, used: Option<f64>) {
        self.joules = self.joules.zip(used).map(|(sum, used)| sum + used);
    }

    /// From a sitting on that is alone or not, and in which joules are counted or not.
    pub(crate) fn sit(&mut self, is_first: bool, alone: bool, counts_joules: bool) {
        self.alone = alone && (is_first || self.alone);
        let before = if is_first { Some(0.0) } else { self.joules };
        self.joules = before.filter(|_| self.alone && counts_joules);
    }

    /// One step more.
    pub fn add_step(&mut self, step: &StepCost) {
        self.tokens += step.tokens;
        self.flops += step.flops;
        self.flops_li2024 += step.flops_li2024;
    }
}

/// Runs some work and adds the time that it took.
pub(crate) fn timed<T>(seconds: &mut f64, work: impl FnOnce() -> T) -> T {
    let started = Instant::now();
    let done = work();
    *seconds += started.elapsed().as_secs_f64();
    done
}

/// Most memory that this process has held so far, in bytes; `None` where the system does not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Tokens per second over about the last second, for people who watch.
pub(crate) struct Speedometer {
    since: Instant,
    tokens: u64,
    last: f64,
}

impl Speedometer {
    /// Starts now.
    pub(crate) fn new() -> Speedometer {
        Speedometer { since: Instant::now(), tokens: 0, last: 0.0 }
    }

    /// So many tokens more; answers the speed.
    pub(crate) fn passed(&mut self, tokens: Tokens) -> f64 {
        self.tokens += tokens.0;
        let elapsed = self.since.elapsed();
        if elapsed >= Duration::from_secs(1) || self.last == 0.0 {
            self.last = self.tokens as f64 / elapsed.as_secs_f64().max(1e-9);
        }
        if elapsed >= Duration::from_secs(1) {
            (self.since, self.tokens) = (Instant::now(), 0);
        }
        self.last
    }
}
