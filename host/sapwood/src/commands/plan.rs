//! `sapwood plan`: what a study will do and cost.

use std::process::ExitCode;

use study::{PhaseMemory, PlannedArm, mebibytes};
use trainer::peak_memory_bytes;

use super::open_study;
use crate::args::{EngineArgs, EngineName, PlanArgs};
use crate::device::DeviceName;
use crate::output::result_line;
use crate::{Outcome, engines};

pub(crate) fn plan(args: &PlanArgs) -> Outcome {
    // A dry run computes nothing: any engine will do.
    let build = engines::builder(EngineArgs { engine: EngineName::Native, device: DeviceName::Cpu });
    let lab = open_study(&args.file, &build)?;
    let arms = lab.plan()?;
    if args.json {
        let arms: Vec<serde_json::Value> = arms.iter().map(as_json).collect();
        let program = peak_memory_bytes();
        let name = &lab.file.study.name;
        result_line!("{:#}", serde_json::json!({ "study": name, "program_bytes": program, "arms": arms }));
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
        print_arm(arm, baseline);
    }
    let runs: usize = arms.iter().map(|arm| arm.runs.len()).sum();
    result_line!("\n{runs} runs in all. Memory is that of one run on the engine `native`{}.", beside());
    Ok(ExitCode::SUCCESS)
}

/// What every process holds whatever it trains, as this one shows that has loaded the same plugins.
fn beside() -> String {
    let held =
        peak_memory_bytes().map(|bytes| format!("; the program itself takes {:.0} MiB", mebibytes(bytes)));
    held.unwrap_or_default()
}

fn print_arm(arm: &PlannedArm, baseline_flops: f64) {
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
}

fn as_json(arm: &PlannedArm) -> serde_json::Value {
    let runs: Vec<String> = arm.runs.iter().map(trainer::RunConfig::name).collect();
    let memory = arm.memory.as_ref().map(|phases| phases.iter().map(memory_as_json).collect::<Vec<_>>());
    serde_json::json!({ "arm": arm.arm, "runs": runs, "rehearsal": arm.rehearsal, "memory": memory })
}

fn memory_as_json(memory: &PhaseMemory) -> serde_json::Value {
    serde_json::json!({ "peak_bytes": memory.peak(), "parts_bytes": memory })
}
