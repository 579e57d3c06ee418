//! The kernels' sources as a library for the processor, by g++ and a shim. Not here: who launches them.
#![allow(unsafe_code)]

use std::path::Path;
use std::process::Command;

use engine_cuda::driver::Number;
use engine_cuda::sources;

/// Further flags of the compiler.
const FLAGS: &str = "SAPWOOD_CXXFLAGS";

/// What activations are kept in.
pub(crate) const NUMBERS: [Number; 2] = [Number::F32, Number::Bf16];

/// How a kernel's entry point ends that takes activations of such numbers.
pub(crate) fn suffix(activations: Number) -> &'static str {
    match activations {
        Number::F32 => "f32",
        Number::Bf16 => "bf16",
    }
}

/// A library of this name, with an entry point `run_KERNEL_NUMBER` for each kernel and whatever `more` defines behind them.
///
/// # Errors
/// There is no g++; said as [`skip`] takes it.
pub(crate) fn library(name: &str, more: &str) -> Result<libloading::Library, String> {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let text = format!("{}\n{more}", program());
    std::fs::write(folder.path().join("kernels.cpp"), text).expect("it can be written");
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut compiler = Command::new("g++");
    // Two neighbours in bf16 are read and written as 32 bits, as NVRTC lets kernels do.
    compiler
        .args([
            "-std=c++17",
            "-O2",
            "-fno-strict-aliasing",
            "-shared",
            "-fPIC",
            &format!("-Wl,-soname,{name}"),
            "-I",
        ])
        .arg(tests);
    // As `.ci/asan` has every access to memory checked.
    compiler.args(std::env::var(FLAGS).unwrap_or_default().split_whitespace());
    let output = compiler.args(["kernels.cpp", "-o", name]).current_dir(folder.path()).output();
    let output = output.map_err(|error| format!("g++ cannot be started: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "the kernels do not compile:\n{said}");
    // SAFETY: the library was just made of our own sources, and initialises nothing but itself.
    let library = unsafe { libloading::Library::new(folder.path().join(name)) };
    Ok(library.expect("what g++ has just linked can be loaded"))
}

/// All sources in one program, with an entry point for each kernel. What one of them defines is not seen by another, as on a
/// GPU, for which each is compiled by itself.
fn program() -> String {
    let mut text = "#include \"emulated/shim.h\"\n".to_owned();
    for (source, number) in
        NUMBERS.into_iter().flat_map(|number| sources::of(number).map(move |source| (source, number)))
    {
        let space = format!("of_{}_{}", source.file.trim_end_matches(".cu"), suffix(number));
        let program = source.program(number).replace("extern \"C\"", "");
        text += &format!("namespace {space} {{ namespace {{\n{program}\n}} }}\n");
        for kernel in source.kernels() {
            text += &format!(
                "extern \"C\" int run_{kernel}_{}(const unsigned* grid, const char* kinds, void** values, bool reverse) \
                 {{ return emulator::launch({space}::{kernel}, grid, kinds, values, reverse); }}\n\
                 extern \"C\" const size_t* sizes_{kernel}_{}() {{ return emulator::sizes({space}::{kernel}); }}\n",
                suffix(number),
                suffix(number)
            );
        }
    }
    text
}

/// Says what is missing; a failure where `SAPWOOD_REQUIRE` names it.
#[expect(clippy::print_stderr, reason = "a test that is left out says so")]
pub(crate) fn skip(what: &str, why: &str) {
    let required = std::env::var("SAPWOOD_REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|name| name == what), "SAPWOOD_REQUIRE names {what}: {why}");
    eprintln!("skipped: {why}");
}
