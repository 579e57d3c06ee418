//! `sapwood doctor`: what this machine has.

use std::process::ExitCode;

use engine::Clocks;
use engine_cuda::nvidia::{self, Found, Library, Meter, Nvml};
use plugin_host::{Registry, SearchPath};

use crate::args::PluginPath;
use crate::output::result_line;
use crate::{Outcome, engines};

pub(crate) fn doctor(args: &PluginPath) -> Outcome {
    result_line!(
        "sapwood {}, {} {}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    let cores =
        std::thread::available_parallelism().map_or_else(|_| "unknown".into(), |cores| cores.to_string());
    result_line!("cores: {cores}");
    result_line!("\nengines");
    for (engine, device, found) in engines::devices() {
        match found {
            Ok(what) => result_line!("  {engine:<10} {device:<5} {what}"),
            Err(error) => result_line!("  {engine:<10} {device:<5} not available: {error}"),
        }
    }
    cuda();
    let search_path = SearchPath::standard(&args.plugin_path);
    result_line!("\nplugins are looked for in");
    for folder in &search_path.0 {
        result_line!("  {}{}", folder.display(), if folder.is_dir() { "" } else { "  (not there)" });
    }
    if let Some(reason) = SearchPath::own_folder_unknown() {
        result_line!("  {reason}");
    }
    let registry = Registry::scan(search_path);
    let (good, refused): (Vec<_>, Vec<_>) = registry.libraries().partition(|found| found.facts.is_ok());
    result_line!("  {} libraries can be loaded", good.len());
    for found in refused {
        if let Err(refusal) = &found.facts {
            result_line!("  {} {refusal}\n    {}", found.path.display(), refusal.hint);
        }
    }
    result_line!("\nplugins that ended a process");
    let leftovers = plugin_host::blame::leftovers();
    for leftover in &leftovers {
        result_line!("  {leftover}");
    }
    if leftovers.is_empty() {
        result_line!("  none since the last start");
    }
    Ok(ExitCode::SUCCESS)
}

/// What CUDA needs: each part with its version, or with what brings it.
fn cuda() {
    let version = |(major, minor): (i32, i32)| format!("CUDA {major}.{minor}");
    result_line!("\nCUDA");
    let parts = [
        ("driver", Library::Driver, nvidia::driver_version().map(version)),
        ("NVRTC", Library::Nvrtc, nvidia::nvrtc_version().map(version)),
        ("cuBLASLt", Library::CublasLt, nvidia::cublaslt_version().map(|number| number.to_string())),
    ];
    for (part, library, version) in parts {
        match version {
            Some(version) => result_line!("  {part:<10} {version}"),
            None => result_line!("  {part:<10} {library} cannot be loaded: install {}", library.package()),
        }
    }
    let nvml =
        Nvml::open().map(|nvml| nvml.driver_version().unwrap_or_else(|| "of an unknown version".into()));
    result_line!("  {:<10} {}", "NVML", nvml.unwrap_or_else(|reason| reason));
    match nvidia::devices() {
        Ok(found) if found.is_empty() => result_line!("  {:<10} none", "GPUs"),
        Ok(found) => found.iter().enumerate().for_each(|(ordinal, gpu)| print_gpu(ordinal, gpu)),
        Err(reason) => result_line!("  {:<10} none: {reason}", "GPUs"),
    }
}

fn print_gpu(ordinal: usize, Found { name, capability: (major, minor), memory_bytes, bus }: &Found) {
    let gib = *memory_bytes as f64 / f64::from(1 << 30);
    let number = format!("cuda:{ordinal}");
    result_line!("  {number:<10} {name}, compute capability {major}.{minor}, {gib:.1} GiB");
    let meter = Meter::of(bus);
    let energy = meter.as_ref().and_then(Meter::millijoules);
    let energy = if energy.is_some() { "energy is counted" } else { "energy is not measured" };
    match meter.as_ref().and_then(Meter::clocks) {
        Some(Clocks {
            processor_megahertz: now,
            most_processor_megahertz: most,
            memory_megahertz: memory,
        }) => {
            result_line!("  {:<10} {now} of {most} MHz now, its memory {memory} MHz; {energy}", "");
        }
        None => result_line!("  {:<10} clocks are not told; {energy}", ""),
    }
}
