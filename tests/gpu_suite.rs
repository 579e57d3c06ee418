//! `sapwood bench --gpu-suite`, on the processor and beside a peer that is five words of shell: one file tells all,
//! also of what failed or was not reached.

use serde_json::Value;

use crate::support::{Bench, Ran, root};

const SHAPE: [&str; 14] = [
    "--layers", "4", "--dmodel", "8", "--heads", "2", "--vocab", "11", "--seq", "8", "--batch", "2",
    "--steps", "2",
];

fn suite(peer: &str, seconds: &str) -> (Ran, Value) {
    suite_with(&["--seconds", seconds], peer)
}

fn suite_with(more: &[&str], peer: &str) -> (Ran, Value) {
    let bench = Bench::new();
    bench.write("peer.sh", peer);
    let reference = root().join("tests/golden/torch_reference_small").display().to_string();
    let flags = ["--peer", "peer.sh", "--python", "sh", "--out", "suite.json", "--reference", &reference];
    let ran = bench.sapwood(&[&["bench", "--gpu-suite"], &SHAPE[..], &flags[..], more].concat());
    let told = std::fs::read_to_string(bench.path("suite.json")).expect("the file is there whatever happens");
    (ran, serde_json::from_str(&told).expect("it is JSON"))
}

#[test]
fn one_file_tells_of_parity_and_of_every_ratio() {
    let (ran, told) = suite("echo '{\"tokens_per_second\": 10, \"flags\": \"'$@'\"}'", "480");
    ran.good();
    assert_eq!(told["parity"]["fp32"]["said"], "parity: within tolerance");
    let ratios = told["ratios"].as_object().expect("ratios by name");
    let names: Vec<&str> = ratios.keys().map(String::as_str).collect();
    assert_eq!(names, ["all", "embeddings-frozen-too", "three-quarters-frozen"]);
    for (name, ratio) in ratios {
        let rate = told["rows"][name]["sapwood"]["tokens_per_second"].as_f64().expect("a rate");
        assert_eq!(ratio.as_f64(), Some(rate / 10.0));
    }
    let flags = |name: &str| told["rows"][name]["peer"]["flags"].as_str().expect("text").to_owned();
    assert!(flags("all").contains("--frozen 0"), "{}", flags("all"));
    assert!(
        flags("embeddings-frozen-too").contains("--frozen 3")
            && flags("embeddings-frozen-too").contains("--freeze-embeddings")
    );
}

/// Other shapes, other numbers and whole schedules are asked for by their names.
#[test]
fn rows_are_chosen_and_a_schedule_has_a_peer_of_its_own() {
    let bench = Bench::new();
    bench.write("peer.sh", "echo '{\"tokens_per_second\": 10, \"peak_memory_gib\": 2, \"flags\": \"'$@'\"}'");
    bench.write("schedule.sh", "echo '{\"tokens\": 640, \"seconds\": 32, \"flags\": \"'$@'\"}'");
    let reference = root().join("tests/golden/torch_reference_small").display().to_string();
    let flags = ["--peer", "peer.sh", "--python", "sh", "--out", "suite.json", "--reference", &reference];
    let rows = ["--rows", "twice-the-batch,a-quarter,schedule-40", "--schedule-peer", "schedule.sh"];
    let ran = bench.sapwood(&[&["bench", "--gpu-suite"], &SHAPE[..], &flags[..], &rows[..]].concat());
    ran.good();
    let told = std::fs::read_to_string(bench.path("suite.json")).expect("the suite writes it");
    let told: Value = serde_json::from_str(&told).expect("it is JSON");
    let row = |name: &str, side: &str| told["rows"][name][side].clone();
    assert_eq!(row("twice-the-batch", "sapwood")["batch"], 4);
    assert_eq!(row("a-quarter", "sapwood")["layers"], 1);
    let schedule = row("schedule-40", "sapwood");
    assert_eq!((&schedule["stages"], schedule["phases"].as_array().map(Vec::len)), (&4.into(), Some(8)));
    assert_eq!(schedule["tokens"], 40 * 2 * 8);
    let flags = row("schedule-40", "peer")["flags"].as_str().expect("text").to_owned();
    assert!(flags.contains("--stages 4 --steps 40 --continual 0") && !flags.contains("--frozen"), "{flags}");
    let ratios = told["ratios"].as_object().expect("ratios by name");
    assert_eq!(ratios.len(), 3);
    let seconds = schedule["seconds"].as_f64().expect("seconds");
    let ratio = ratios["schedule-40"].as_f64().expect("a ratio");
    assert!((ratio - 640.0 / seconds / 20.0).abs() < 1e-9 * ratio);
    let of = |name: &str| ratios[name].as_f64().expect("a ratio");
    let mean = (of("twice-the-batch") * of("a-quarter")).sqrt();
    let told_mean = told["geometric_mean"].as_f64().expect("of two rows");
    assert!((told_mean / mean - 1.0).abs() < 1e-9, "{told_mean}, not {mean}");
    let memory = row("a-quarter", "sapwood")["peak_memory_gib"].as_f64().expect("measured");
    assert_eq!(told["memory_ratios"]["a-quarter"].as_f64(), Some(memory / 2.0));
}

#[test]
fn a_schedule_is_timed_alone_and_beside_a_peer() {
    let bench = Bench::new();
    bench.write("schedule.sh", "echo '{\"tokens\": 640, \"seconds\": 32}'");
    let whole = [&["bench"], &SHAPE[..12], &["--stages", "2", "--steps", "8", "--continual", "1"]].concat();
    let alone = bench.sapwood(&whole).good();
    assert!(alone.contains("stage 2 phase 1") && alone.contains("continual"), "{}", alone);
    let peer = ["--peer", "schedule.sh", "--python", "sh", "--rounds", "1"];
    let beside = bench.sapwood(&[&whole[..], &peer[..]].concat()).good();
    assert!(beside.contains("peer 32.00 s"), "{}", beside);
    let refused = bench.sapwood(&[&["bench"], &SHAPE[..12], &["--stages", "3"]].concat());
    expect_test::expect![[r#"
        error: 4 blocks do not come to 3 stages of as many each
        hint: choose --layers that is a multiple of --stages
        exit 3
    "#]]
    .assert_eq(&refused.said());
}

#[test]
fn a_peer_that_fails_is_told_of_and_what_is_ours_is_kept() {
    let (ran, told) = suite_with(&["--rows", "all"], "echo no torch >&2; exit 3");
    assert_eq!(ran.code, Some(8), "{}", ran.said());
    assert_eq!(told["ratios"], serde_json::json!({}));
    let why = told["rows"]["all"]["peer"]["failed"].as_str().expect("a reason");
    assert!(why.contains("no torch"), "{why}");
    assert!(told["rows"]["all"]["sapwood"]["tokens_per_second"].is_number());
}

#[test]
fn a_suite_whose_time_is_up_ends_with_what_there_is() {
    let (ran, told) = suite("echo '{}'", "0");
    assert_eq!(ran.code, Some(10), "{}", ran.said());
    assert_eq!(told["parity"]["fp32"]["said"], "not run: the time was up");
    assert_eq!(told["rows"]["all"]["sapwood"]["failed"], "not run: the time was up");
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_anything_runs() {
    let bench = Bench::new();
    let flags =
        ["bench", "--gpu-suite", "--peer", "none", "--reference", "none", "--out", "nowhere/suite.json"];
    expect_test::expect![[r#"
        error: cannot write nowhere/suite.json: there is no such folder
        hint: choose another --out
        exit 8
    "#]]
    .assert_eq(&bench.sapwood(&flags).said());
}

#[test]
fn what_hangs_is_ended_when_the_time_is_up() {
    let begun = std::time::Instant::now();
    let (_, told) = suite_with(&["--seconds", "20", "--rows", "all"], "exec sleep 600");
    assert!(begun.elapsed().as_secs() < 60, "it took {:?}", begun.elapsed());
    let why = told["rows"]["all"]["peer"]["failed"].as_str().expect("a reason");
    assert!(why.contains("the time was up"), "{why}");
}

/// Both sides compute in what was asked for; the processor has no bfloat16, which is told of both of our parts.
#[test]
fn both_sides_are_told_of_the_precision() {
    let (ran, told) = suite_with(
        &["--precision", "bf16", "--rows", "all"],
        "echo '{\"tokens_per_second\": 10, \"flags\": \"'$@'\"}'",
    );
    assert_eq!(ran.code, Some(10), "{}", ran.said());
    let said = |value: &Value| value.as_str().unwrap_or_default().contains("the precision bf16");
    assert!(
        said(&told["parity"]["bf16"]["said"]) && said(&told["rows"]["all"]["sapwood"]["failed"]),
        "{told}"
    );
    let flags = told["rows"]["all"]["peer"]["flags"].as_str().expect("text");
    assert!(flags.contains("--precision bf16"), "{flags}");
}
