//! A plugin from outside the workspace, written from the documentation alone, and an initializer swapped by one
//! word: neither touches the host.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::support::{self, Bench, Panic, SAPWOOD, build_outside, json_lines, run_folders};

/// The whole strategy that `sapwood-plugin`'s documentation begins with, as an author would copy it.
fn documented_strategy() -> String {
    let path = support::root().join("plugin-api/src/lib.rs");
    let text = fs::read_to_string(path).expect("the crate has documentation");
    let lines = text.lines().filter_map(|line| line.strip_prefix("//!"));
    let example =
        lines.skip_while(|line| line.trim() != "```").skip(1).take_while(|line| line.trim() != "```");
    // What documentation hides from its reader is there for the test of the documentation alone.
    let shown =
        example.map(|line| line.strip_prefix(' ').unwrap_or(line)).filter(|line| !line.starts_with("# "));
    shown.map(|line| format!("{line}\n")).collect()
}

/// Writes a crate that depends on `sapwood-plugin` (and serde and schemars, for its configuration) alone.
fn write_crate(folder: &Path, source: &str) {
    let plugin_api = support::root().join("plugin-api").canonicalize().expect("it is there");
    let manifest = format!(
        "[workspace]\n\n[package]\nname = \"steady\"\nversion = \"0.3.0\"\nedition = \"2024\"\n\n\
         [lib]\ncrate-type = [\"cdylib\"]\n\n\
         [dependencies]\nsapwood-plugin = {{ path = \"{}\" }}\nschemars = \"1\"\n\
         serde = {{ version = \"1\", features = [\"derive\"] }}\n",
        plugin_api.display()
    );
    fs::create_dir_all(folder.join("src")).expect("room for a crate");
    fs::write(folder.join("Cargo.toml"), manifest).expect("room for a manifest");
    fs::write(folder.join("src/lib.rs"), source).expect("room for a file");
}

fn sha256(path: &Path) -> Vec<u8> {
    Sha256::digest(fs::read(path).expect("the binary is there")).to_vec()
}

#[test]
fn a_plugin_from_outside_is_built_dropped_into_a_folder_and_trained_with() {
    let before = sha256(Path::new(SAPWOOD));
    let strategy = "use = \"example/steady\"\n\n[arms.stack.strategy.config]\nevery_steps = 12\n";
    let bench = Bench::with(&[(STACK, strategy), ("use = \"sapwood/copy\"", "use = \"sapwood/original\"")]);
    let unknown = bench.study();
    assert_eq!(unknown.code, Some(5), "nobody offers it yet: {}", unknown.said());

    let source = documented_strategy();
    assert!(source.contains("impl GrowthStrategy for Steady") && !source.contains("unsafe"), "{source}");
    write_crate(&bench.path("crate"), &source);
    let library = build_outside(&bench.path("crate"), Panic::Unwinds);
    fs::create_dir(bench.path("dropped")).expect("room");
    fs::copy(&library, bench.path("dropped").join(library.file_name().expect("a library has a name")))
        .expect("room for a library");
    let args = ["--plugin-path", "dropped"];
    let listed = bench.sapwood(&[&["plugin", "list"], &args[..]].concat()).good();
    assert!(
        listed.contains("example/steady             0.3.0    ABI 2   adds a block every so many steps"),
        "{listed}"
    );
    bench.sapwood(&[&["study", "study.toml", "--out", "out"], &args[..]].concat()).good();

    let run = bench.path("out/runs/stack/compute/seed-1");
    let depths: Vec<u64> =
        json_lines(&run.join("metrics.jsonl")).iter().filter_map(|step| step["depth"].as_u64()).collect();
    assert_eq!((depths[11], depths[12]), (1, 2), "it grows before step 12, as it was told");
    assert_eq!(sha256(Path::new(SAPWOOD)), before, "the host is another");
}

/// How the tiny study's second arm chooses its strategy.
const STACK: &str = "use = \"sapwood/stack\"\n\n[arms.stack.strategy.config]\nfactor = 2\ngrow_after_steps = 15\n\
                     optimizer = \"copy\"\n";

#[test]
fn one_word_swaps_the_initializer() {
    let receipt = |initializer: &str| -> serde_json::Value {
        let chosen = format!("use = \"sapwood/{initializer}\"");
        let bench = Bench::with(&[("use = \"sapwood/copy\"", &chosen)]);
        bench.study().good();
        let runs: Vec<PathBuf> = run_folders(&bench.path("out"));
        let run = runs.iter().find(|run| run.to_string_lossy().contains("stack")).expect("the arm has runs");
        let decisions = json_lines(&run.join("decisions.jsonl"));
        decisions.into_iter().find(|decision| decision["decision"] == "edited").expect("it has grown")
    };
    let change = |receipt: &serde_json::Value| -> f64 {
        let loss = |key: &str| receipt[key].as_f64().expect("a receipt has losses");
        (loss("loss_after") - loss("loss_before")).abs()
    };
    let (original, zeroed) = (receipt("original"), receipt("zero-out"));
    assert_eq!((&original["claim"], &zeroed["claim"]), (&"none".into(), &"exact".into()));
    assert!(change(&original) > 1e-5, "a new block changes what the model says: {original}");
    assert!(change(&zeroed) < 1e-6, "the function is unchanged: {zeroed}");
    assert_eq!(original["depth_after"], zeroed["depth_after"]);
}
