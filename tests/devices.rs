//! Where a study computes: where it was told to, or nowhere; and where nobody said so, the log tells.

use expect_test::expect;

use crate::faults::saw;
use crate::support::{Bench, Ran};

/// Where there is a driver this is another test.
#[test]
fn a_device_that_is_not_there_is_no_reason_to_train_elsewhere() {
    if engine_cuda::nvidia::Library::Driver.is_there() {
        return;
    }
    let said = |flags: &[&str]| {
        let bench = Bench::new();
        let study = ["study", "study.toml", "--out", "out", "--jobs", "1"];
        let outcome = bench.sapwood(&[&study[..], flags].concat());
        assert!(!bench.path("out/runs").exists(), "it trained elsewhere");
        if flags == ["--device", "cuda"] {
            let told = "error: device `cuda:0` is not available: libcuda.so.1 cannot be loaded (…)";
            saw("a device that is not there", &outcome, told);
        }
        outcome.said()
    };
    // What else is missing depends on the machine.
    let native = said(&["--device", "cuda"]);
    let driver =
        "error: device `cuda:0` is not available: libcuda.so.1 cannot be loaded (install NVIDIA's driver";
    assert!(native.starts_with(driver), "{native}");
    assert!(native.ends_with("`sapwood doctor` tells\nexit 8\n"), "{native}");
    expect![[r#"
        error: device `cuda:1` is not available: the engine `reference` computes on the processor alone
        hint: use `--device cpu`, or make the device available; `sapwood doctor` tells
        exit 8
    "#]]
    .assert_eq(&said(&["--device", "cuda:1", "--engine", "reference"]));
    if cfg!(feature = "burn-cuda") {
        return;
    }
    let burn = said(&["--device", "cuda", "--engine", "burn"]);
    assert!(
        burn.starts_with("error: device `cuda` is not available: the engine `burn` was built without it"),
        "{burn}"
    );
}

/// Where there is a GPU it is another device.
#[test]
fn auto_is_the_processor_where_there_is_no_gpu_and_the_log_says_so() {
    if engine_cuda::nvidia::Library::Driver.is_there() {
        return;
    }
    let bench = Bench::new();
    bench.sapwood(&["study", "study.toml", "--out", "out", "--device", "auto"]).good();
    let log = std::fs::read_to_string(bench.path("out/sapwood.log")).expect("there is a log");
    let line = "device: cpu, chosen by `--device auto`: libcuda.so.1 cannot be loaded";
    assert!(log.contains(line), "{log}");
}

/// Planning computes nothing: it may be done for another machine.
#[test]
fn a_precision_that_the_processor_does_not_have_is_refused_before_anything_is_trained() {
    let bench = Bench::new();
    let set = ["--set", "training.precision=\"bf16\""];
    bench.sapwood(&[&["plan", "study.toml"][..], &set].concat()).good();
    let outcome = bench.sapwood(&[&["study", "study.toml", "--out", "out"][..], &set].concat());
    assert!(!bench.path("out/runs").exists(), "it trained otherwise");
    let reference = crate::support::root().join("tests/golden/torch_reference_small").display().to_string();
    let parity = bench.sapwood(&["parity", "--reference", &reference, "--precision", "tf32"]);
    let timed = bench.sapwood(&["bench", "--engine", "reference", "--precision", "bf16"]);
    let unknown = bench.sapwood(&["plan", "study.toml", "--set", "training.precision=\"fp8\""]);
    let all: String = [outcome, parity, timed, unknown].iter().map(Ran::said).collect();
    expect![[r#"
        error: the engine `native` does not implement the precision bf16 on the device cpu
        hint: choose another engine or device, or a model and a precision that this one implements
        exit 3
        error: the engine `native` does not implement the precision tf32 on the device cpu
        hint: choose another engine or device, or a model and a precision that this one implements
        exit 3
        error: the engine `reference` does not implement the precision bf16 on the device cpu
        hint: choose another engine or device, or a model and a precision that this one implements
        exit 3
        error: unknown value `fp8`
          --> --set training.precision
        hint: did you mean `fp32`? known here: fp32, tf32, bf16
        exit 3
    "#]]
    .assert_eq(&all);
}
