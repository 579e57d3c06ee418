//! `sapwood parity`: replays recorded runs of another implementation and compares.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use engine::Precision;
use engine_native::proof::{self, Agreement};
use study::parity::{Deviation, ExpectedRun, Tolerances, compare, expected, point_at};
use study::{Execution, Lab, Scope, Sharing, Source, execute, run_folder};
use trainer::{ErrorClass, TrainError};

use crate::args::{EngineName, ParityArgs};
use crate::device::Place;
use crate::failure::{Failed, OUT_OF_TOLERANCE};
use crate::output::result_line;
use crate::{Outcome, engines, log};

/// Relative difference of a gradient from a slope, both in f64.
const SLOPE: f64 = 1e-6;

/// What each recorded run did, as a run of ours.
const CONFIGS: [(&str, &str); 5] = [
    ("a", include_str!("../../../../configs/parity/a.toml")),
    ("b", include_str!("../../../../configs/parity/b.toml")),
    ("c", include_str!("../../../../configs/parity/c.toml")),
    ("d", include_str!("../../../../configs/parity/d.toml")),
    ("e", include_str!("../../../../configs/parity/e.toml")),
];

pub(crate) fn parity(args: &ParityArgs, verbose: u8) -> Outcome {
    let temporary = tempfile::tempdir().map_err(|error| {
        Failed::new(ErrorClass::Resource, format!("no temporary folder: {error}"), "give `--out`")
    })?;
    let out = args.out.as_deref().unwrap_or(temporary.path());
    log::into_folder(out, verbose)?;
    let recorded = expected(&args.reference)?;
    engines::log_choice(args.engine, &[]);
    let mut within = by_itself(args)?;
    for (name, run) in &recorded.runs {
        let Some((_, config)) = CONFIGS.iter().find(|(known, _)| known == name) else {
            let message =
                format!("{} has a run `{name}` that no configuration describes", args.reference.display());
            return Err(Failed::new(ErrorClass::Config, message, "add it to configs/parity"));
        };
        let deviations = replay(args, name, config, run, out)?;
        result_line!("run {name}");
        for deviation in &deviations {
            print(deviation);
        }
        within &= deviations.iter().all(Deviation::is_within);
    }
    result_line!("{}", if within { "parity: within tolerance" } else { "parity: OUT OF TOLERANCE" });
    Ok(if within { ExitCode::SUCCESS } else { ExitCode::from(OUT_OF_TOLERANCE) })
}

/// What the native engine is held to without any recording: each kernel against its twin in f64, each tensor's
/// gradient against the slope of the loss.
fn by_itself(args: &ParityArgs) -> Result<bool, Failed> {
    let (engine, place, precision) =
        (args.engine.engine, args.engine.device.resolve().0, args.precision.into());
    engines::check(precision, engine, place).map_err(TrainError::from)?;
    let kernels = match (engine, place) {
        (EngineName::Native, Place::Cpu) => proof::kernels(&[engine_native::Cpu::new()]),
        (EngineName::Native, Place::Cuda(ordinal)) => {
            engines::prove_gpu(ordinal, precision).map_err(TrainError::from)?
        }
        (EngineName::Reference, _) => Vec::new(),
        (EngineName::Burn, _) => return Ok(true),
    };
    let kernels = worst_of_each(kernels, "", tolerance_of_kernels(precision));
    let slopes = worst_of_each(proof::slopes(), "d loss / d ", SLOPE);
    for (title, rows) in
        [("kernels against f64", &kernels), ("gradients against finite differences", &slopes)]
    {
        if !rows.is_empty() {
            result_line!("{title}");
            rows.iter().for_each(print);
        }
    }
    Ok(kernels.iter().chain(&slopes).all(Deviation::is_within))
}

/// Largest difference of a kernel's output from its twin's, relative to its largest value: in bfloat16 one step of it, where f32's
/// rounding makes a number fall to the other side; in TF32, of a product of positive factors, what both may be off by, 2^-10 each where
/// they are cut.
fn tolerance_of_kernels(precision: Precision) -> f64 {
    match precision {
        Precision::Fp32 => 1e-5,
        Precision::Tf32 => 2.0 / 1024.0,
        Precision::Bf16 => 1.0 / 128.0,
    }
}

/// One row for each kernel, or for each class of tensor.
fn worst_of_each(agreements: Vec<Agreement>, prefix: &str, tolerance: f64) -> Vec<Deviation> {
    let mut rows: BTreeMap<String, Deviation> = BTreeMap::new();
    for Agreement { what, place, deviation } in agreements {
        let class = what.rsplit(": ").next().unwrap_or(&what);
        let name = format!("{prefix}{class}");
        let row = rows.entry(name.clone()).or_insert_with(|| Deviation::new(name, tolerance));
        row.compare(deviation, || place);
    }
    rows.into_values().collect()
}

fn replay(
    args: &ParityArgs,
    name: &str,
    config: &str,
    recorded: &ExpectedRun,
    out: &Path,
) -> Result<Vec<Deviation>, Failed> {
    let file = format!("configs/parity/{name}.toml");
    let mut source = Source::of_text(Path::new(&file), config.to_owned(), &[])?;
    point_at(&mut source, &args.reference)?;
    let build = engines::builder(args.engine);
    let lab = Lab::open(source, &args.plugins.plugin_path, &build, crate::suites::open)?;
    let run = lab.plan()?[0].runs[0].clone();
    let interrupt = AtomicBool::new(false);
    let (folder, scope, sharing) = (&out.join(name), Scope::Study, &Sharing::default());
    let interrupt = &interrupt;
    let how = Execution { folder, jobs: 1, engines: &[], scope, interrupt, terminal: false, sharing };
    let executed = execute(&lab, std::slice::from_ref(&run), &how)?;
    if let Some((_, error)) = executed.failed.into_iter().next() {
        return Err(error.into());
    }
    Ok(compare(&run_folder(how.folder, &run), recorded, Tolerances::of_run(name))?)
}

fn print(deviation: &Deviation) {
    let verdict = if deviation.is_within() { "ok" } else { "TOO FAR" };
    result_line!(
        "  {:<28} worst {:>9.2e} of {:>8.1e} allowed, {:>5} compared  {verdict:<7}  {}",
        deviation.what,
        deviation.worst,
        deviation.tolerance,
        deviation.compared,
        deviation.place
    );
}
