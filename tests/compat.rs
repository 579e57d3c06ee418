//! What is frozen stays loadable: the golden library of revision 1, whose bytes are kept, gives the decisions that were
//! recorded; a newer plugin in this host and this revision's plugins in a newer host meet at the older revision, or are
//! told why not. The newer side is made up: the feature `next-revision` of `sapwood-plugin`, which no release has.

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{self, Bench, json_lines};

/// The platform that the golden libraries are built for.
const IS_GOLDEN_PLATFORM: bool = cfg!(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"));

fn kept(name: &str) -> PathBuf {
    support::root().join("tests/golden/plugins").join(name)
}

/// The golden library as it was built; its hash is the one that was written down.
fn golden() -> Vec<u8> {
    let packed = fs::read(kept("revision-1.so.gz")).expect("it is kept");
    assert!(packed.len() < 400_000, "{} bytes are too many to keep", packed.len());
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&*packed).read_to_end(&mut bytes).expect("it is whole");
    let written = fs::read_to_string(kept("SHA256SUMS")).expect("its hash is kept");
    assert_eq!(written, format!("{:x}  revision-1.so\n", Sha256::digest(&bytes)), "it is another library");
    bytes
}

/// The same plugins, from a crate that offers revision 3 of the strategy's interface beside 1 and 2.
fn newer() -> Vec<u8> {
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let build = || {
        let folder = support::root().join("tests/fixtures/golden");
        let made = support::build_outside_into(
            &folder,
            "test-next",
            &["--features", "sapwood-plugin/next-revision"],
        );
        let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
        fs::read(made.join(format!("{prefix}golden{suffix}"))).expect("it was built")
    };
    BYTES.get_or_init(build).clone()
}

/// A study with all three plugins of that library, with further keys beside each `use`.
fn study_with(library: &[u8], keys: &str) -> Bench {
    let from = format!("library = \"golden.so\"{keys}");
    let initializer =
        format!("{{ use = \"golden/noisy\", library = \"golden.so\"{} }}", keys.replace('\n', ", "));
    let bench = Bench::with(&[
        ("use = \"sapwood/stack\"", &format!("use = \"golden/growing\"\n{from}")),
        ("factor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n", "grow_at = 12\n"),
        ("{ use = \"sapwood/copy\" }", &initializer),
    ]);
    bench.write("golden.so", library);
    bench.add_to_study(&format!("\n[[reporters]]\nuse = \"golden/counting\"\n{from}\n"));
    bench
}

/// The decisions of a finished study's growing run.
fn decisions(bench: &Bench) -> Vec<Value> {
    bench.study().good();
    json_lines(&bench.path("out/runs/stack/compute/seed-1/decisions.jsonl"))
}

/// Losses of a model may differ in their last digits between processors; nothing else may.
fn same_but_for_rounding(found: &Value, expected: &Value, place: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            // Fields may be added; none goes.
            for (key, value) in expected {
                same_but_for_rounding(&found[key], value, &format!("{place}.{key}"));
            }
        }
        (Value::Number(found), Value::Number(expected)) if place.contains("loss") => {
            let difference = found.as_f64().zip(expected.as_f64()).map(|(a, b)| (a - b).abs());
            assert!(
                difference.is_some_and(|difference| difference < 1e-4),
                "{place}: {found}, not {expected}"
            );
        }
        _ => assert_eq!(found, expected, "{place}"),
    }
}

fn same_decisions(found: &[Value], expected: &[Value]) {
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (line, (found, expected)) in found.iter().zip(expected).enumerate() {
        same_but_for_rounding(found, expected, &format!("decision {line}"));
    }
}

#[test]
fn the_golden_library_of_revision_1_decides_as_it_was_recorded() {
    if !IS_GOLDEN_PLATFORM {
        return support::left_out("golden-platform", "golden libraries are for x86-64 Linux with glibc");
    }
    let bench = study_with(&golden(), "");
    let found = decisions(&bench);
    let record = kept("revision-1.decisions.jsonl");
    if std::env::var_os("SAPWOOD_RECORD").is_some() && !record.exists() {
        let lines: String = found.iter().map(|decision| format!("{decision}\n")).collect();
        fs::write(&record, lines).expect("room for a record");
    }
    same_decisions(&found, &json_lines(&record));
    let counted = fs::read_to_string(bench.path("out/golden.txt")).expect("the reporter wrote it");
    assert!(counted.ends_with(" edits\n") && !counted.starts_with('0'), "{counted}");
    bench.sapwood(&["plugin", "validate", "golden.so", "--id", "golden/noisy"]).good();
}

#[test]
fn what_a_plugin_logs_stands_in_the_log_wherever_it_runs() {
    let library = newer();
    for keys in ["", "\nisolation = \"process\""] {
        let bench = study_with(&library, keys);
        bench.study().good();
        let log = fs::read_to_string(bench.path("out/sapwood.log")).expect("a study has a log");
        assert!(
            log.lines().any(|line| line.contains("grows before step 12") && line.contains(" INFO ")),
            "{log}"
        );
        assert!(!log.contains("there is no block 99"), "details are shown with -v alone:\n{log}");
    }
}

#[test]
fn a_newer_plugin_in_this_host_meets_it_at_the_older_revision() {
    let bench = study_with(&newer(), "");
    let inspected = bench.sapwood(&["plugin", "inspect", "golden.so"]).good();
    for revision in 1..=3 {
        assert!(inspected.contains(&format!("strategy {revision} (")), "{inspected}");
    }
    let found = decisions(&bench);
    if IS_GOLDEN_PLATFORM {
        same_decisions(&found, &json_lines(&kept("revision-1.decisions.jsonl")));
    }
}

/// What a host that knows revision 3 prints of a library's strategy.
fn in_a_newer_host(library: &[u8]) -> Result<String, String> {
    let folder = tempfile::tempdir().expect("room");
    let path = folder.path().join("golden.so");
    fs::write(&path, library).expect("room for a library");
    let made =
        support::build_outside_into(&support::root().join("tests/fixtures/next_host"), "test-next", &[]);
    let host = made.join(format!("next-host{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(host).arg(path).args(["golden/growing", "{\"grow_at\": 4}"]).output();
    let output = output.expect("it was built");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn in_a_newer_host_old_and_new_plugins_decide_alike_each_through_its_newest_revision() {
    let new = in_a_newer_host(&newer()).expect("it knows all three revisions");
    let (first, transcript) = new.split_once('\n').expect("two parts");
    assert_eq!(first, "revision 3");
    assert!(transcript.contains("before step 4: insert 1 above 0 for new_blocks from 0"), "{transcript}");
    if IS_GOLDEN_PLATFORM {
        let old = in_a_newer_host(&golden()).expect("it still knows revision 1");
        assert_eq!(old, format!("revision 1\n{transcript}"));
    }
}

/// The newer library, with revisions that nobody knows where those stood that are known.
fn of_unknown_revisions() -> Vec<u8> {
    let mut bytes = newer();
    for (known, unknown) in [(1, 8), (2, 9)] {
        let [from, to] = [known, unknown].map(|n| format!("\"kind\":\"strategy\",\"revision\":{n}"));
        let at = bytes.windows(from.len()).position(|part| part == from.as_bytes()).expect("it offers it");
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

#[test]
fn where_there_is_no_common_revision_there_is_one_clear_refusal() {
    let bench = study_with(&of_unknown_revisions(), "");
    let ran = bench.study();
    assert_eq!(ran.code, Some(5), "{}", ran.said());
    let expected = "offers the strategy interface in revision 8 and 9 and 3, this host knows 2 and 1; it was built against";
    assert!(ran.stderr.contains(expected), "{}", ran.stderr);
    let hint = "hint: use a newer sapwood, or build the plugin against this host's `sapwood-plugin`";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{}", ran.stderr);
    assert!(!bench.path("out/runs").exists(), "something was run");
}

/// The recipe names the crate and the compiler that the kept library was built with.
#[test]
fn the_golden_library_says_what_its_recipe_says() {
    let recipe = fs::read_to_string(kept("README.md")).expect("there is a recipe");
    let bench = Bench::new();
    bench.write("golden.so", golden());
    if IS_GOLDEN_PLATFORM {
        let facts = bench.sapwood(&["plugin", "inspect", "golden.so"]).good();
        let built =
            facts.lines().find_map(|line| line.strip_prefix("built with  ")).expect("facts are shown");
        assert!(recipe.contains(built), "the recipe does not say `{built}`");
    }
}
