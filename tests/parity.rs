//! Recorded PyTorch runs, replayed through the plugins: within tolerance for two shapes of model, and not for a
//! recording that differs in one number.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{self, Bench, Ran};

fn golden(name: &str) -> PathBuf {
    support::root().join("tests/golden").join(name)
}

fn replay(engine: &str, reference: &Path) -> Ran {
    let reference = reference.to_str().expect("a path in plain text");
    Bench::new().sapwood(&["parity", "--engine", engine, "--reference", reference])
}

fn check(engine: &str, name: &str) {
    let printed = replay(engine, &golden(name)).good();
    // Burn is an oracle; what is ours is held to more than recordings.
    for title in ["kernels against f64\n", "gradients against finite differences\n"] {
        assert_eq!(printed.contains(title), engine == "native", "{printed}");
    }
    for run in ["a", "b", "c", "d", "e"] {
        assert!(printed.contains(&format!("run {run}\n")), "{run} was not replayed:\n{printed}");
    }
    assert!(printed.ends_with("parity: within tolerance\n"), "{printed}");
}

#[test]
fn the_golden_runs_are_met() {
    check("native", "torch_reference");
    check("burn", "torch_reference");
}

#[test]
fn the_golden_runs_of_another_shape_are_met() {
    check("native", "torch_reference_small");
    check("burn", "torch_reference_small");
}

#[test]
fn a_loss_that_is_off_by_a_thousandth_is_found() {
    let bench = Bench::new();
    let small = golden("torch_reference_small");
    for entry in fs::read_dir(&small).expect("it is there").flatten() {
        fs::copy(entry.path(), bench.path(&entry.file_name().to_string_lossy())).expect("room");
    }
    let mut expected = support::json(&small.join("expected.json"));
    let loss = &mut expected["runs"]["c"]["steps"][7]["loss"];
    *loss = (loss.as_f64().expect("a loss") + 1e-3).into();
    bench.write("expected.json", expected.to_string());
    let ran = bench.sapwood(&["parity", "--reference", "."]);
    assert_eq!(ran.code, Some(10), "{}", ran.said());
    let found: Vec<&str> = ran.stdout.lines().filter(|line| line.contains("TOO FAR")).collect();
    assert!(
        matches!(found[..], [only] if only.trim_start().starts_with("loss ") && only.ends_with("step 7")),
        "{found:?}"
    );
    assert!(ran.stdout.ends_with("parity: OUT OF TOLERANCE\n"), "{}", ran.stdout);
}

#[test]
fn a_folder_that_is_no_recording_is_refused() {
    let ran = Bench::new().sapwood(&["parity", "--reference", "."]);
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    assert!(ran.stderr.starts_with("error: cannot read ./expected.json: "), "{}", ran.stderr);
}
