//! `sapwood plugin validate`: every plugin in plugins/ passes, and each fault of the pack in tests/fixtures/faulty
//! is found, by the name of a question. No plugin of plugins/ is named here.

use std::path::Path;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::support::{self, Bench, Panic, Ran, built_plugins};

/// The pack of faults.
fn faulty() -> &'static Path {
    static LIBRARY: OnceLock<std::path::PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        support::build_outside(&support::root().join("tests/fixtures/faulty"), Panic::Unwinds)
    })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in plain text")
}

fn certificate(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}", ran.said()))
}

/// The questions with that outcome, in order.
fn with_outcome(certificate: &serde_json::Value, outcome: &str) -> Vec<String> {
    let replies = certificate["plugins"][0]["replies"].as_array().expect("an examined plugin");
    let chosen = replies.iter().filter(|reply| reply["outcome"] == outcome);
    chosen.map(|reply| reply["question"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn every_plugin_passes_at_least_forty_questions() {
    let bench = Bench::new();
    for library in built_plugins() {
        let ran = bench.sapwood(&["plugin", "validate", text(library), "--json"]);
        let certificate = certificate(&ran);
        assert_eq!(with_outcome(&certificate, "failed"), [""; 0], "{}: {}", library.display(), ran.said());
        let (passed, absent) =
            (with_outcome(&certificate, "passed"), with_outcome(&certificate, "not-applicable"));
        assert!(passed.len() >= 40, "{} passed {} alone, not {absent:?}", library.display(), passed.len());
        assert_eq!((ran.code, &certificate["passed"]), (Some(0), &true.into()));
        let hash = Sha256::digest(std::fs::read(library).expect("it was built"));
        assert_eq!(certificate["sha256"], format!("{hash:x}"), "a certificate is about these bytes");
    }
}

/// What the suite finds in a plugin of the pack: exactly these questions fail.
fn check(id: &str, failing: &[&str]) {
    let bench = Bench::new();
    let args = ["plugin", "validate", text(faulty()), "--id", id, "--json", "--seconds", "5"];
    let ran = bench.sapwood(&args);
    let failed = with_outcome(&certificate(&ran), "failed");
    assert_eq!(failed, failing, "{id}: {}", ran.said());
    assert_eq!(ran.code, Some(if failing.is_empty() { 0 } else { 6 }), "{id}");
}

#[test]
fn what_has_no_fault_passes() {
    check("faulty/none", &[]);
    check("faulty/sound-blocks", &[]);
    check("faulty/sound-reporter", &[]);
}

#[test]
fn a_strategy_that_throws_dice_or_forgets_or_shares_is_found() {
    check(
        "faulty/nondeterministic",
        &[
            "same-answers-again",
            "same-answers-in-another-process",
            "instances-are-separate",
            "moves-between-threads",
            "saving-changes-nothing",
            "goes-on-from-a-saved-state",
        ],
    );
    check("faulty/forgetful", &["goes-on-from-a-saved-state"]);
    check(
        "faulty/sharing",
        &[
            "same-answers-again",
            "instances-are-separate",
            "moves-between-threads",
            "saving-changes-nothing",
            "goes-on-from-a-saved-state",
        ],
    );
}

#[test]
fn a_strategy_that_asks_too_much_or_keeps_everything_is_found() {
    check("faulty/absurd", &["requests-are-ones-that-a-host-takes", "spikes-are-survived"]);
    check("faulty/leaking", &["memory-does-not-grow"]);
}

/// What the suite says of one question, and of one before it that is answered in time.
fn check_end(id: &str, said: &str) {
    let bench = Bench::new();
    let mut args = vec!["plugin", "validate", text(faulty()), "--id", id, "--json", "--seconds", "5"];
    args.extend([
        "--question",
        "plan-repeats",
        "--question",
        "run-goes-through",
        "--question",
        "prints-nothing",
    ]);
    let ran = bench.sapwood(&args);
    let certificate = certificate(&ran);
    assert_eq!(with_outcome(&certificate, "passed"), ["plan-repeats"], "{id}: {}", ran.said());
    assert_eq!(with_outcome(&certificate, "failed"), ["run-goes-through", "prints-nothing"], "{id}");
    assert_eq!(certificate["plugins"][0]["replies"][1]["said"], said, "{id}");
    assert_eq!(ran.code, Some(6), "{id}");
}

#[test]
fn a_strategy_that_ends_or_holds_up_its_process_fails_those_questions_alone() {
    check_end("faulty/aborting", "ended its process: signal: 6 (SIGABRT)");
    check_end("faulty/exiting", "ended its process: exit status: 0");
    check_end("faulty/hanging", "does not come to an end within 5 s");
}

#[test]
fn a_strategy_that_meddles_with_its_process_is_found() {
    check("faulty/printing", &["prints-nothing"]);
    check("faulty/threading", &["starts-no-thread"]);
    check("faulty/littering", &["writes-no-file"]);
}

#[test]
fn an_initializer_that_lies_or_throws_dice_or_forgets_is_found() {
    check("faulty/false-claim", &["exact-claims-hold"]);
    check(
        "faulty/not-a-number",
        &[
            "every-element-is-written",
            "any-position-is-filled",
            "sources-are-used-or-survived",
            "unknown-source-is-survived",
            "empty-stack-is-survived",
            "other-shapes-are-survived",
            "wide-blocks-are-filled",
        ],
    );
    check(
        "faulty/random-blocks",
        &[
            "same-answers-again",
            "same-answers-in-another-process",
            "instances-are-separate",
            "moves-between-threads",
            "goes-on-from-a-saved-state",
        ],
    );
    check("faulty/forgetful-blocks", &["goes-on-from-a-saved-state"]);
    check("faulty/leaking-blocks", &["memory-does-not-grow"]);
}

#[test]
fn a_reporter_that_leaks_or_prints_or_litters_is_found() {
    check("faulty/leaking-reporter", &["memory-does-not-grow"]);
    check("faulty/printing-reporter", &["prints-nothing-to-stdout"]);
    check("faulty/littering-reporter", &["writes-where-it-may"]);
}

const FUZZ: [&str; 4] = ["--question", "survives-fuzzing", "--json", "--fuzz"];

#[test]
fn every_plugin_survives_some_nonsense() {
    let bench = Bench::new();
    for library in built_plugins() {
        let args = [&["plugin", "validate", text(library)], &FUZZ[..], &["1"]].concat();
        let ran = bench.sapwood(&args);
        assert_eq!(with_outcome(&certificate(&ran), "passed"), ["survives-fuzzing"], "{}", ran.said());
    }
}

/// Nonsense finds the fault, and its seed finds it again at once.
fn check_fuzz(id: &str, how: &str) {
    let bench = Bench::new();
    let ask = |seconds: &str, seed: &str| {
        let args = ["plugin", "validate", text(faulty()), "--id", id];
        let ran = bench.sapwood(&[&args[..], &FUZZ[..], &[seconds, "--seed", seed]].concat());
        let said = certificate(&ran)["plugins"][0]["replies"][0]["said"].as_str().expect("words").to_owned();
        assert_eq!(with_outcome(&certificate(&ran), "failed"), ["survives-fuzzing"], "{id}: {}", ran.said());
        assert!(said.contains(how), "{id}: {said}");
        said.strip_prefix("seed ").and_then(|rest| rest.split(':').next()).expect("a seed").to_owned()
    };
    let seed = ask("10", "1");
    assert_eq!(ask("0", &seed), seed, "{id}: the seed is the case");
}

#[test]
fn what_nonsense_breaks_is_found_by_its_seed() {
    check_fuzz("faulty/brittle", "panicked");
    check_fuzz("faulty/crumbling", "ended its process: signal: 6");
}
