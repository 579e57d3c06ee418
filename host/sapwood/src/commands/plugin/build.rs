//! `sapwood plugin build`: cargo builds the crate, and the library is looked at the way that a host does.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use plugin_host::{Registry, SearchPath};
use serde_json::Value;
use trainer::ErrorClass;

use crate::Outcome;
use crate::args::BuildArgs;
use crate::failure::Failed;
use crate::output::result_line;

use super::facts::{print_facts, print_facts_json};

pub(crate) fn build(args: &BuildArgs) -> Outcome {
    let folder = args.folder.as_deref().unwrap_or(Path::new("."));
    if !folder.join("Cargo.toml").is_file() {
        let message = format!("{} holds no crate: there is no Cargo.toml", folder.display());
        let hint = "name the plugin's folder, or begin one with `sapwood plugin new`";
        return Err(Failed::new(ErrorClass::Config, message, hint));
    }
    let libraries = libraries_of(&cargo_build(folder)?);
    let [library] = libraries.as_slice() else {
        let message =
            format!("the crate in {} makes {} shared libraries, not one", folder.display(), libraries.len());
        let hint = "a plugin's manifest says `crate-type = [\"cdylib\"]` below `[lib]`";
        return Err(Failed::new(ErrorClass::Config, message, hint));
    };
    let facts = Registry::scan(SearchPath(vec![])).facts_of(library)?;
    if args.json {
        print_facts_json(library, &facts, None)?
    } else {
        print_facts(library, &facts)
    }
    if !args.json {
        result_line!("\nnext: sapwood plugin validate {}", library.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What cargo says of what it made, a JSON object a line; errors and progress go to standard error as ever.
fn cargo_build(folder: &Path) -> Result<Vec<Value>, Failed> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let cannot_run = |error: std::io::Error| {
        let message = format!("`{}` cannot be run: {error}", program.to_string_lossy());
        Failed::new(ErrorClass::Resource, message, "install Rust (1.85 or later), or put cargo on the PATH")
    };
    let mut child = Command::new(&program)
        .args(["build", "--release", "--lib", "--message-format=json-render-diagnostics"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot_run)?;
    let stdout = child.stdout.take().into_iter();
    let lines = stdout.flat_map(|stdout| BufReader::new(stdout).lines().map_while(Result::ok));
    // What is no JSON comes from a build script that prints; it is not about artifacts.
    let said = lines.filter_map(|line| serde_json::from_str(&line).ok()).collect();
    let status = child.wait().map_err(cannot_run)?;
    if !status.success() {
        let message = format!("the crate in {} does not build: cargo ended with {status}", folder.display());
        return Err(Failed::new(ErrorClass::PluginFault, message, "what the compiler says stands above"));
    }
    Ok(said)
}

/// The shared libraries of the crate itself: it is the last that cargo makes.
fn libraries_of(said: &[Value]) -> Vec<PathBuf> {
    let mut made = said.iter().filter(|message| message["reason"] == "compiler-artifact");
    let is_library = |message: &&Value| {
        message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "cdylib"))
    };
    let files = made.rfind(is_library).map(|message| &message["filenames"]);
    let files = files.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let shared = |path: &PathBuf| path.extension().is_some_and(|is| is == std::env::consts::DLL_EXTENSION);
    files.map(PathBuf::from).filter(shared).collect()
}
