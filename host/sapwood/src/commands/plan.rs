//! `sapwood plan`: what a study will do and cost.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use study::{Lab, PlannedArm, Source};

use crate::args::{DeviceName, EngineArgs, EngineName, PlanArgs};
use crate::{Outcome, engines};

pub(crate) fn plan(args: &PlanArgs) -> Outcome {
    let source = Source::read(&args.file.file, &args.file.set)?;
    // A dry run computes nothing: any engine will do.
    let build = engines::builder(EngineArgs { engine: EngineName::Native, device: DeviceName::Cpu });
    let mut lab = Lab::open(source, &args.file.plugins.plugin_path, &build)?;
    crate::commands::plugin::lock::require(&args.file, &mut lab)?;
    let arms = lab.plan()?;
    if args.json {
        let arms: Vec<serde_json::Value> = arms.iter().map(as_json).collect();
        println!("{:#}", serde_json::json!({ "study": lab.file.study.name, "arms": arms }));
        return Ok(ExitCode::SUCCESS);
    }
    let shape = &lab.file.model;
    println!(
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
    println!(
        "\n{runs} runs in all. Memory is that of weights, gradients and moments; activations come on top."
    );
    Ok(ExitCode::SUCCESS)
}

fn print_arm(arm: &PlannedArm, baseline_flops: f64) {
    let rehearsal = &arm.rehearsal;
    println!(
        "\n{}  {} steps, {} tokens, {:.3e} FLOPs ({:.3} of the baseline), {:.1} MiB",
        arm.arm,
        rehearsal.steps,
        rehearsal.costs.tokens,
        rehearsal.costs.flops.total().as_f64(),
        rehearsal.costs.flops.total().as_f64() / baseline_flops,
        rehearsal.state_bytes as f64 / (1024.0 * 1024.0),
    );
    println!(
        "  {:<20} {:>10} {:>10} {:>6} {:>18} {:>14}",
        "phase", "first step", "steps", "depth", "training params", "FLOPs a step"
    );
    for phase in &rehearsal.phases {
        println!(
            "  {:<20} {:>10} {:>10} {:>6} {:>18} {:>14.3e}",
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
    serde_json::json!({ "arm": arm.arm, "runs": runs, "rehearsal": arm.rehearsal })
}
