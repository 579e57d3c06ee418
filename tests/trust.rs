//! Whose libraries are loaded, and that they stay what they were: owners and modes, private copies, plugins.lock.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;
use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use sha2::{Digest, Sha256};

use crate::cases;
use crate::support::{
    self, Bench, Ran, beside_the_binary, files_below, json, misbehaving, refused, run_folders, same_results,
};

/// A study whose second arm takes its strategy from `plugins/good.so`, a copy of the fixtures' library.
fn bench() -> Bench {
    let bench = Bench::with(&[
        ("use = \"sapwood/stack\"", "use = \"fixture/strategy\"\nlibrary = \"plugins/good.so\""),
        ("factor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n", "does = \"nothing\"\n"),
    ]);
    fs::create_dir(bench.path("plugins")).expect("room");
    fs::copy(misbehaving(), bench.path("plugins/good.so")).expect("room");
    bench
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
}

fn sha256(path: &Path) -> String {
    format!("{:x}", Sha256::digest(fs::read(path).expect("it is there")))
}

/// Who unpacks something and runs sapwood there has asked for none of it.
#[test]
fn nothing_is_looked_for_in_the_working_directory() {
    let bench = Bench::new();
    fs::create_dir(bench.path("plugins")).expect("room");
    for place in ["good.so", "plugins/good.so"] {
        fs::copy(misbehaving(), bench.path(place)).expect("room");
    }
    let listed = |arguments: &[&str]| bench.sapwood(&[&["plugin", "list"], arguments].concat()).good();
    assert!(!listed(&[]).contains("fixture/strategy"), "{}", listed(&[]));
    assert!(!listed(&[]).contains("good.so"), "{}", listed(&[]));
    assert!(listed(&["--plugin-path", "plugins"]).contains("fixture/strategy"), "named, it is found");
}

#[test]
fn what_others_could_have_written_is_not_loaded() {
    let check = |case: &str, spoil: &dyn Fn(&Bench), expected: Expect| {
        let bench = bench();
        spoil(&bench);
        let ran = bench.study();
        refused(&bench, &ran, &expected);
        cases::enter("library", case, &bench, &ran);
        let listed = bench.sapwood(&["plugin", "list", "--plugin-path", "plugins"]).good();
        assert!(listed.contains("passed over: plugins/good.so "), "{listed}");
        assert!(!bench.is_marked(), "code of a refused library has run");
    };
    check(
        "all may write it",
        &|bench| set_mode(&bench.path("plugins/good.so"), 0o646),
        expect![[r#"
        error: the library ./plugins/good.so is writable by everybody
          --> study.toml:71
        hint: chmod o-w 'TMP/plugins/good.so', if you trust what is there
        exit 5
    "#]],
    );
    check(
        "all may write its folder",
        &|bench| set_mode(&bench.path("plugins"), 0o777),
        expect![[r#"
        error: the library ./plugins/good.so lies in TMP/plugins, which is writable by everybody
          --> study.toml:71
        hint: chmod o-w 'TMP/plugins', if you trust what is there
        exit 5
    "#]],
    );
    // A sticky bit does for folders above alone: in its own, anybody could put another library beside it.
    check(
        "all may write its folder, sticky",
        &|bench| set_mode(&bench.path("plugins"), 0o1777),
        expect![[r#"
        error: the library ./plugins/good.so lies in TMP/plugins, which is writable by everybody
          --> study.toml:71
        hint: chmod o-w 'TMP/plugins', if you trust what is there
        exit 5
    "#]],
    );
    check(
        "all may write a folder above",
        &|bench| set_mode(&bench.path(""), 0o777),
        expect![[r#"
        error: the library ./plugins/good.so lies below TMP, which is writable by everybody
          --> study.toml:71
        hint: chmod o-w 'TMP', if you trust what is there
        exit 5
    "#]],
    );
}

#[test]
fn what_belongs_to_somebody_else_is_not_loaded() {
    let bench = bench();
    let library = bench.path("plugins/good.so");
    if fs::metadata(&library).expect("it is there").uid() != 0 {
        return support::left_out("root", "only root can give a file away");
    }
    chown(&library, Some(12345), None).expect("root can");
    refused(
        &bench,
        &bench.study(),
        &expect![[r#"
        error: the library ./plugins/good.so is owned by user 12345, neither by you nor by root
          --> study.toml:71
        hint: copy the library into a folder of your own, if you trust it
        exit 5
    "#]],
    );
    chown(&library, Some(0), None).expect("root can");
    chown(bench.path("plugins"), Some(12345), None).expect("root can");
    refused(
        &bench,
        &bench.study(),
        &expect![[r#"
        error: the library ./plugins/good.so lies in TMP/plugins, which is owned by user 12345, neither by you nor by root
          --> study.toml:71
        hint: copy the library into a folder of your own, if you trust it
        exit 5
    "#]],
    );
    chown(bench.path("plugins"), Some(0), None).expect("root can");
    bench.study().good();
}

#[test]
fn runs_record_the_hash_of_what_they_used() {
    let bench = bench();
    bench.study().good();
    let wanted = sha256(&bench.path("plugins/good.so"));
    let runs = run_folders(&bench.path("out"));
    let hashes = runs.iter().map(|run| json(&run.join("run.json"))["bound_to"]["plugins"].clone());
    let ours = hashes.filter(|plugins| plugins[0]["id"] == "fixture/strategy");
    let ours: Vec<String> =
        ours.map(|plugins| plugins[0]["sha256"].as_str().expect("a hash").to_owned()).collect();
    assert_eq!(ours, [wanted.clone(), wanted]);
}

/// Long enough to be caught at.
const STUDY: [&str; 10] = [
    "study",
    "study.toml",
    "--out",
    "out",
    "--jobs",
    "1",
    "--set",
    "budget.steps=1500",
    "--set",
    "checkpoints.every_steps=500",
];

#[test]
fn a_library_that_is_overwritten_during_a_study_disturbs_nobody() {
    let (calm, disturbed) = (bench(), bench());
    calm.sapwood(&STUDY).good();
    let child = disturbed.start(&STUDY);
    let first = disturbed.path("out/runs/whole/tokens/seed-1/metrics.jsonl");
    let began = Instant::now();
    while !fs::metadata(&first).is_ok_and(|facts| facts.len() > 0) {
        assert!(began.elapsed() < Duration::from_secs(60), "the study does not begin");
        std::thread::sleep(Duration::from_millis(2));
    }
    // In place: of a library that is mapped, this changes the code that runs.
    fs::write(disturbed.path("plugins/good.so"), vec![0xcc; 4096]).expect("it is ours");
    let early = !disturbed.path("out/runs/stack").exists();
    disturbed.end(child).good();
    assert!(early, "the runs that use it had begun before it was overwritten, which proves nothing");
    same_results(&calm.path("out"), &disturbed.path("out"));
    // The next start sees what lies there now, and loses nothing.
    let next = disturbed.sapwood(&STUDY);
    assert_eq!(next.code, Some(5), "{}", next.said());
}

#[test]
fn a_lock_holds_a_study_to_the_very_bytes() {
    let bench = bench();
    let locked = |bench: &Bench| -> Ran {
        bench.sapwood(&["study", "study.toml", "--out", "out", "--jobs", "1", "--locked"])
    };
    refused(
        &bench,
        &locked(&bench),
        &expect![[r#"
        error: plugins.lock cannot be read: No such file or directory (os error 2)
        hint: `sapwood plugin lock STUDY.toml` writes one
        exit 3
    "#]],
    );

    let printed = bench.sapwood(&["plugin", "lock", "study.toml"]).good();
    let hash = sha256(&bench.path("plugins/good.so"));
    assert!(printed.contains(&hash) && printed.ends_with("written: plugins.lock\n"), "{printed}");
    let lock = json(&bench.path("plugins.lock"));
    let ids: Vec<&str> = lock["plugins"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|plugin| plugin["id"].as_str())
        .collect();
    assert_eq!(ids, ["fixture/strategy", "sapwood/baseline", "sapwood/copy"]);
    assert_eq!(lock["plugins"][0]["sha256"], hash);
    bench.sapwood(&["plan", "study.toml", "--locked"]).good();

    // A byte more at the end changes nothing that it does, but it is another library.
    let mut bytes = fs::read(bench.path("plugins/good.so")).expect("it is there");
    bytes.push(0);
    fs::write(bench.path("plugins/good.so"), bytes).expect("it is ours");
    let other = sha256(&bench.path("plugins/good.so"));
    let mut ran = locked(&bench);
    ran.stderr = ran.stderr.replace(&hash, "LOCKED").replace(&other, "OTHER");
    refused(
        &bench,
        &ran,
        &expect![[r#"
        error: the library ./plugins/good.so is not the one of plugins.lock: its sha256 is OTHER, locked is LOCKED
          --> study.toml:71
        hint: get the library that was locked, or lock this one with `sapwood plugin lock`
        exit 5
    "#]],
    );
    bench.sapwood(&["plan", "study.toml"]).good();

    // A plugin that the lock does not know.
    let told = bench.sapwood(&["plugin", "lock", "study.toml", "--json"]).good();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON was asked for");
    assert!(told["written"] == "plugins.lock" && told["plugins"][0]["sha256"] == other, "{told}");
    bench.add_to_study("\n[[reporters]]\nuse = \"sapwood/csv\"\n");
    refused(
        &bench,
        &locked(&bench),
        &expect![[r#"
        error: the library BIN/libreport_csv.so offers the reporter `sapwood/csv`, which is not in plugins.lock
          --> study.toml:76
        hint: get the library that was locked, or lock this one with `sapwood plugin lock`
        exit 5
    "#]],
    );
    bench.sapwood(&["plugin", "lock", "study.toml"]).good();
    locked(&bench).good();
}

#[test]
fn a_run_records_the_certificates_of_its_plugins() {
    let mut bench = Bench::new();
    bench.set_variable("XDG_DATA_HOME", &bench.path("data").display().to_string());
    let library = bench.sapwood(&["plugin", "inspect", "sapwood/stack", "--json"]).good();
    let library: serde_json::Value = serde_json::from_str(&library).expect("JSON was asked for");
    let library = library[0]["library"]
        .as_str()
        .expect("its file")
        .replace("BIN", &beside_the_binary().display().to_string());
    let ran = bench.sapwood(&["plugin", "validate", &library]);
    let kept = files_below(&bench.path("data/sapwood/certificates"));
    assert!(
        kept.len() == 1 && ran.stderr.contains("certificate: TMP/data/sapwood/certificates/"),
        "{}",
        ran.said()
    );
    ran.good();
    // Part of an examination is no certificate.
    bench.sapwood(&[
        "plugin",
        "validate",
        misbehaving().to_str().expect("plain text"),
        "--question",
        "id-is-author-slash-name",
    ]);
    assert_eq!(files_below(&bench.path("data")), kept);

    let examined = |out: &str| {
        bench.sapwood(&["train", "study.toml", "--arm", "stack", "--seed", "1", "--out", out]).good();
        json(&bench.path(&format!("{out}/runs/stack/compute/seed-1/run.json")))["made_by"]["examined"].take()
    };
    let recorded = examined("out");
    let stack = &recorded["sapwood/stack"];
    assert!(stack["asked"].as_u64() >= Some(40) && stack["failed"] == serde_json::json!([]), "{recorded}");
    assert_eq!(stack["examined_by"], env!("CARGO_PKG_VERSION"));
    assert!(stack["config"]["factor"].is_u64() && recorded["sapwood/copy"].is_null(), "{recorded}");
    fs::write(&kept[0], "{}").expect("it was written");
    assert!(examined("again")["sapwood/stack"].is_null(), "a damaged certificate says nothing");
    let log = fs::read_to_string(bench.path("again/sapwood.log")).expect("a study has a log");
    assert!(log.contains("is passed over"), "{log}");
}
