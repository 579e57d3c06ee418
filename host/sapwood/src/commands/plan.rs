//! `sapwood plan`: what a study will do and cost.

use std::process::ExitCode;

use study::speed::{self, Rate};
use study::sweep::SweepSection;
use study::{BuildEngine, Lab, PhaseMemory, PlannedArm, Saving, Sharing, StagedPart, mebibytes};
use trainer::{ErrorClass, SuiteConfig, peak_memory_bytes};

use super::open_study;
use crate::args::PlanArgs;
use crate::failure::Failed;
use crate::output::{bytes, duration, result_line};
use crate::{Outcome, engines};

pub(crate) fn plan(args: &PlanArgs) -> Outcome {
    // A dry run computes nothing: any engine will do, unless one is to be timed.
    let chosen = engines::builder(args.engine);
    let build: BuildEngine<'_> = if args.time { &chosen } else { &engines::for_planning };
    let lab = open_study(&args.file, build)?;
    let arms = lab.plan()?;
    let rate = if args.time { Some(measured(&lab, build)?) } else { None };
    let sharing = Sharing::of(&arms);
    let saving = sharing.saving(&arms);
    if args.json {
        let arms: Vec<serde_json::Value> = arms.iter().map(as_json).collect();
        let program = peak_memory_bytes();
        let name = &lab.file.study.name;
        let mut all = serde_json::json!({
            "study": name, "program_bytes": program, "rate": rate, "sharing": saving, "arms": arms
        });
        let suites = &lab.file.evaluation.suites;
        if !suites.is_empty() {
            all["suites"] = serde_json::json!(suites);
        }
        result_line!("{all:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let shape = &lab.file.model;
    result_line!(
        "{}: {} arms × {} seeds; {} blocks × {} wide, {:.1} M parameters, {} tokens a step",
        lab.file.study.name,
        arms.len(),
        lab.file.study.seeds.len(),
        shape.layers,
        shape.width,
        shape.parameters(shape.layers) as f64 / 1e6,
        lab.file.training.sequences_per_step * shape.context,
    );
    let baseline = arms[0].rehearsal.costs.flops.total().as_f64();
    for arm in &arms {
        print_arm(arm, baseline, rate.as_ref());
        print_copies(arm, &sharing);
    }
    print_all(&lab, &arms, saving, rate.as_ref());
    Ok(ExitCode::SUCCESS)
}

/// How fast the whole model trains on as many threads as a run has.
fn measured(lab: &Lab<'_>, build: BuildEngine<'_>) -> Result<Rate, Failed> {
    let threads = lab.file.study.threads_per_run;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool =
        pool.map_err(|error| Failed::new(ErrorClass::Resource, error, "lower study.threads_per_run"))?;
    let precision = lab.file.training.precision;
    Ok(pool.install(|| speed::rate(&lab.file.model, |shape| build(shape, precision)))?)
}

fn print_all(lab: &Lab<'_>, arms: &[PlannedArm], saving: Saving, rate: Option<&Rate>) {
    let runs: usize = arms.iter().map(|arm| arm.runs.len()).sum();
    let disk: u64 = arms.iter().map(|arm| arm.runs.len() as u64 * arm.disk.most).sum();
    result_line!(
        "\n{runs} runs in all, up to {} of checkpoints. Memory is that of one run on the engine `native`{}.",
        bytes(disk),
        beside()
    );
    let Saving { copies, saved, sum, .. } = saving;
    if copies > 0 {
        result_line!(
            "{copies} of them begin as copies of others, with which they have their first steps in common: {:.1} % of all FLOPs \
             need not be spent a second time.",
            100.0 * saved.as_f64() / sum.as_f64(),
        );
    }
    if let Some(SweepSection { rates, seeds, budget_fraction }) = &lab.file.sweep {
        let trials = rates.len() * seeds.len();
        let of_seed = saving.sum.as_f64() / lab.file.study.seeds.len() as f64;
        result_line!(
            "Before them a sweep: every run with {} rates on {} seeds of its own, {:.0} % as long, {:.3e} FLOPs in all.",
            rates.len(),
            seeds.len(),
            100.0 * budget_fraction,
            of_seed * trials as f64 * budget_fraction,
        );
    }
    for suite in &lab.file.evaluation.suites {
        result_line!("{}", suite_in_words(suite));
    }
    let Some(rate) = rate else { return };
    let flops = saving.sum.as_f64() - saving.saved.as_f64();
    let threads = lab.file.study.threads_per_run;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = (cores / threads).clamp(1, runs.max(1));
    result_line!(
        "At {:.1} GFLOP/s (engine `{}`, {}, {threads} threads a run, timed now) all runs take {}, {jobs} at a time: evaluations, \
         audits and checkpoints not counted.",
        rate.flops_per_second / 1e9,
        rate.engine,
        rate.device,
        duration(flops / rate.flops_per_second / jobs as f64),
    );
}

fn suite_in_words(suite: &SuiteConfig) -> String {
    let items = suite.items.map_or_else(|| "all items".into(), |items| format!("{items} items"));
    let when = match suite.every_evaluations {
        1 => "every evaluation".into(),
        several => format!("one in {several} evaluations"),
    };
    format!(
        "Suite {}: {items} of {} are put to each run's model at {when}, at the end of the token budget and at the end. That is \
         charged to nobody, and its time is not counted here.",
        suite.name,
        suite.path.display()
    )
}

/// Exact FLOPs of a run.
fn flops(arm: &PlannedArm) -> f64 {
    arm.rehearsal.costs.flops.total().as_f64()
}

fn print_copies(arm: &PlannedArm, sharing: &Sharing) {
    let first = arm.runs.first().map(|run| run.seed);
    for run in arm.runs.iter().filter(|run| Some(run.seed) == first) {
        let name = run.name();
        if let Some((model, until)) = sharing.begins_as(&name) {
            result_line!("  {name} begins as a copy of {model}, and takes its own steps from {until} on");
        }
    }
}

fn print_staged(staged: &StagedPart) {
    let StagedPart { steps, li2024, weight_matmul, exact } = staged;
    result_line!(
        "  the {steps} steps before the last phase cost {:.3} of as many of the baseline's by li2024, {:.3} by weight_matmul, {:.3} by \
         the exact ledger; for equal cost {:.1}, {:.1}, {:.1} of its steps are left",
        li2024.share_of_baseline,
        weight_matmul.share_of_baseline,
        exact.share_of_baseline,
        li2024.baseline_steps_left,
        weight_matmul.baseline_steps_left,
        exact.baseline_steps_left,
    );
}

/// What every process holds whatever it trains, as this one shows that has loaded the same plugins.
fn beside() -> String {
    let held =
        peak_memory_bytes().map(|bytes| format!("; the program itself takes {:.0} MiB", mebibytes(bytes)));
    held.unwrap_or_default()
}

fn print_arm(arm: &PlannedArm, baseline_flops: f64, rate: Option<&Rate>) {
    let rehearsal = &arm.rehearsal;
    result_line!(
        "\n{}  {} steps, {} tokens, {:.3e} FLOPs ({:.3} of the baseline), micro-batches of {}",
        arm.arm,
        rehearsal.steps,
        rehearsal.costs.tokens,
        rehearsal.costs.flops.total().as_f64(),
        rehearsal.costs.flops.total().as_f64() / baseline_flops,
        arm.runs[0].training.micro_batch_sequences,
    );
    result_line!(
        "  {:<20} {:>10} {:>10} {:>6} {:>16} {:>13} {:>11}",
        "phase",
        "first step",
        "steps",
        "depth",
        "training params",
        "FLOPs a step",
        "memory, MiB"
    );
    for (index, phase) in rehearsal.phases.iter().enumerate() {
        let memory = arm
            .memory
            .as_ref()
            .map_or_else(|| "unknown".into(), |phases| format!("{:.1}", mebibytes(phases[index].peak())));
        result_line!(
            "  {:<20} {:>10} {:>10} {:>6} {:>16} {:>13.3e} {memory:>11}",
            phase.label,
            phase.first_step,
            phase.steps,
            phase.depth,
            phase.trainable_parameters,
            phase.step.flops.total().as_f64(),
        );
    }
    arm.staged.iter().for_each(print_staged);
    let time = rate.map_or_else(String::new, |rate| {
        format!("; a run takes {}", duration(flops(arm) / rate.flops_per_second))
    });
    let disk = &arm.disk;
    result_line!(
        "  checkpoints of up to {}, {} a run{time}",
        bytes(disk.largest_checkpoint),
        bytes(disk.most)
    );
}

fn as_json(arm: &PlannedArm) -> serde_json::Value {
    let runs: Vec<String> = arm.runs.iter().map(trainer::RunConfig::name).collect();
    let memory = arm.memory.as_ref().map(|phases| phases.iter().map(memory_as_json).collect::<Vec<_>>());
    let PlannedArm { arm, rehearsal, staged, disk, .. } = arm;
    serde_json::json!({
        "arm": arm,
        "runs": runs,
        "rehearsal": rehearsal,
        "staged": staged,
        "disk_bytes": disk,
        "memory": memory,
    })
}

fn memory_as_json(memory: &PhaseMemory) -> serde_json::Value {
    serde_json::json!({ "peak_bytes": memory.peak(), "parts_bytes": memory })
}
