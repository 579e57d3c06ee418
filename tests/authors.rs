//! An author's way: `plugin new`, `build`, `validate`, `install`, and a study with what came of it. The crates are
//! built outside the workspace, from what the commands write and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use expect_test::{Expect, expect};

use crate::support::{self, Bench, json, misbehaving, run_folders};

/// A folder in which plugins can be built: cargo is at hand, the user's data folder is a temporary one.
fn workshop() -> Bench {
    let mut bench = Bench::new();
    support::lend_cargo(&mut bench);
    let data = bench.path("data").display().to_string();
    bench.set_variable("XDG_DATA_HOME", &data);
    bench
}

fn sdk() -> String {
    let folder = support::root().join("plugin-api").canonicalize().expect("it is in the workspace");
    folder.display().to_string()
}

fn new(bench: &Bench, name: &str, kind: &str) -> String {
    let said = bench.sapwood(&["plugin", "new", name, "--kind", kind, "--author", "ada", "--sdk", &sdk()]);
    // The versions are the workspace's, so that nothing has to be fetched.
    fs::copy(support::root().join("Cargo.lock"), bench.path(name).join("Cargo.lock")).expect("room");
    said.good()
}

/// Begins a plugin, tests, builds, validates and installs it; answers what `install` printed.
fn made(bench: &Bench, name: &str, kind: &str) -> String {
    let said = new(bench, name, kind);
    assert!(said.contains(&format!("`ada/{name}`")), "{said}");
    let mut test = Command::new(env!("CARGO"));
    support::with_cargo_variables(&mut test);
    let tested = test.args(["test", "--release"]).current_dir(bench.path(name)).output().expect("cargo runs");
    let passed = String::from_utf8_lossy(&tested.stdout).contains("test result: ok.");
    assert!(tested.status.success() && passed, "{}", String::from_utf8_lossy(&tested.stderr));

    let built = bench.sapwood(&["plugin", "build", name]).good();
    assert!(built.contains(&format!("`ada/{name}` 0.1.0: ")), "{built}");
    let library = library(name);
    assert!(built.contains(&format!("next: sapwood plugin validate TMP/{library}")), "{built}");
    let examined = bench.sapwood(&["plugin", "validate", &library]).good();
    assert!(examined.contains(&format!("{kind} `ada/{name}` passed all")), "{examined}");
    bench.sapwood(&["plugin", "install", &library]).good()
}

fn library(name: &str) -> String {
    use std::env::consts::{DLL_PREFIX, DLL_SUFFIX};
    format!("{name}/target/release/{DLL_PREFIX}{}{DLL_SUFFIX}", name.replace('-', "_"))
}

/// The examples as they stand, whatever they are called.
#[test]
fn every_example_passes_validation() {
    let entries = fs::read_dir(support::root().join("examples")).expect("there are examples").flatten();
    let crates = entries.map(|entry| entry.path()).filter(|path| path.join("Cargo.toml").is_file());
    let mut kinds = Vec::new();
    for folder in crates {
        let library = support::build_outside(&folder, support::Panic::Unwinds);
        let ran =
            Bench::new().sapwood(&["plugin", "validate", library.to_str().expect("plain text"), "--json"]);
        let certificate: serde_json::Value = serde_json::from_str(&ran.good()).expect("JSON was asked for");
        let plugin = &certificate["plugins"][0]["plugin"];
        let name = folder.file_name().and_then(|name| name.to_str()).expect("plain text");
        assert_eq!(plugin["id"], format!("example/{name}"));
        kinds.push(plugin["kind"].as_str().expect("a kind").to_owned());
    }
    kinds.sort();
    assert_eq!(kinds, ["initializer", "reporter", "strategy"], "one of each kind");
}

#[test]
fn one_of_each_kind_is_begun_built_validated_installed_and_trained_with() {
    let bench = workshop();
    for (name, kind) in [("my-growth", "strategy"), ("my-blocks", "initializer"), ("my-notes", "reporter")] {
        let installed = made(&bench, name, kind);
        assert!(installed.contains("installed; nothing was replaced"), "{installed}");
        assert!(installed.contains("TMP/data/sapwood/plugins/"), "{installed}");
    }
    bench.write_study(&[
        ("use = \"sapwood/stack\"", "use = \"ada/my-growth\""),
        ("factor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n", "every_steps = 12\n"),
        ("{ use = \"sapwood/copy\" }", "{ use = \"ada/my-blocks\", config = { branch_scale = 0.0 } }"),
    ]);
    bench.add_to_study("\n[[reporters]]\nuse = \"ada/my-notes\"\n");
    bench.study().good();
    let grown =
        run_folders(&bench.path("out")).into_iter().find(|run| run.to_string_lossy().contains("stack"));
    let run = grown.expect("the arm has runs");
    let decisions = support::json_lines(&run.join("decisions.jsonl"));
    let edited = decisions.iter().find(|decision| decision["decision"] == "edited").expect("it has grown");
    assert_eq!((&edited["step"], &edited["claim"]), (&12.into(), &"exact".into()));
    let best = fs::read_to_string(run.join("my-notes.txt")).expect("the reporter wrote it");
    assert!(best.contains(" nats per token at step "), "{best}");
    assert!(json(&run.join("run.json")).to_string().contains("ada/my-growth"), "the run names its plugins");
}

#[test]
fn a_plugin_that_is_installed_again_takes_the_place_of_the_old_one() {
    let bench = workshop();
    made(&bench, "again", "strategy");
    let same = bench.sapwood(&["plugin", "install", &library("again")]).good();
    assert!(same.contains("these very bytes were installed already"), "{same}");
    let manifest = fs::read_to_string(bench.path("again/Cargo.toml")).expect("it was written");
    bench.write("again/Cargo.toml", manifest.replace("version = \"0.1.0\"", "version = \"0.2.0\""));
    bench.sapwood(&["plugin", "build", "again"]).good();
    let newer = bench.sapwood(&["plugin", "install", &library("again")]).good();
    assert!(newer.contains("installed; replaced strategy `ada/again` 0.1.0 (sha256 "), "{newer}");
    let listed = bench.sapwood(&["plugin", "list"]).good();
    assert!(listed.contains("ada/again                  0.2.0"), "{listed}");

    // Another file that offers the same plugin would make both useless.
    fs::copy(bench.path(&library("again")), bench.path("other.so")).expect("room");
    let ambiguous = bench.sapwood(&["plugin", "install", "other.so"]);
    assert_eq!(ambiguous.code, Some(5), "{}", ambiguous.said());
    assert!(ambiguous.stderr.contains("the strategy `ada/again` is offered by both"), "{}", ambiguous.stderr);
    let folder = fs::read_dir(bench.path("data/sapwood/plugins")).expect("it was made");
    assert_eq!(folder.count(), 1, "nothing is left behind");
}

#[test]
fn a_place_that_is_taken_or_a_name_that_will_not_do_is_refused() {
    let check = |args: &[&str], expected: Expect| {
        let bench = workshop();
        bench.write("taken", "");
        let ran = bench.sapwood(&[&["plugin", "new"], args].concat());
        expected.assert_eq(&ran.said());
        assert_eq!(fs::read(bench.path("taken")).expect("it was there"), b"", "it was touched");
    };
    check(
        &["taken", "--kind", "strategy"],
        expect![[r#"
        error: taken is there already
        hint: choose another name, or another place with --path
        exit 3
    "#]],
    );
    check(
        &["Mine", "--kind", "reporter"],
        expect![[r#"
        error: `Mine` cannot be a plugin's name
        hint: lowercase letters, digits and - can, beginning with a letter
        exit 3
    "#]],
    );
    check(
        &["serde", "--kind", "reporter"],
        expect![[r#"
        error: `serde` is the name of something else
        hint: choose another
        exit 3
    "#]],
    );
    check(
        &["mine", "--kind", "reporter", "--author", "A B"],
        expect![[r#"
        error: `A B` cannot be an author's name
        hint: lowercase letters, digits and - can, beginning with a letter
        exit 3
    "#]],
    );
    check(
        &["mine", "--kind", "initializer", "--sdk", "nowhere"],
        expect![[r#"
        error: --sdk nowhere cannot be found: No such file or directory (os error 2)
        hint: name the folder `plugin-api` of sapwood's sources with --sdk
        exit 3
    "#]],
    );
    check(
        &["mine", "--kind", "initializer", "--path", "nowhere/mine"],
        expect![[r#"
        error: there is no folder nowhere
        hint: create it, or name another
        exit 3
    "#]],
    );
}

#[test]
fn without_an_sdk_the_crate_depends_by_version() {
    let bench = workshop();
    let said = bench.sapwood(&["plugin", "new", "mine", "--kind", "reporter", "--json"]).good();
    let said: serde_json::Value = serde_json::from_str(&said).expect("JSON was asked for");
    assert_eq!(said, serde_json::json!({ "folder": "mine", "kind": "reporter", "id": "me/mine" }));
    let manifest = fs::read_to_string(bench.path("mine/Cargo.toml")).expect("it was written");
    assert!(manifest.contains("\nsapwood-plugin = \"1\"\n"), "{manifest}");
    assert!(bench.path("mine/.gitignore").is_file() && bench.path("mine/README.md").is_file());
    let source = fs::read_to_string(bench.path("mine/src/lib.rs")).expect("it was written");
    assert!(source.contains("id: \"me/mine\""), "{source}");
}

#[test]
fn what_does_not_build_or_is_no_plugin_is_told_apart() {
    let mut bench = workshop();
    let none = bench.sapwood(&["plugin", "build"]);
    expect![[r#"
        error: . holds no crate: there is no Cargo.toml
        hint: name the plugin's folder, or begin one with `sapwood plugin new`
        exit 3
    "#]]
    .assert_eq(&none.said());

    new(&bench, "broken", "strategy");
    bench.write("broken/src/lib.rs", "//! No Rust.\nfn broken(");
    let broken = bench.sapwood(&["plugin", "build", "broken"]);
    assert_eq!(broken.code, Some(6), "{}", broken.said());
    assert!(broken.stderr.contains("error: this file contains an unclosed delimiter"), "{}", broken.stderr);
    assert!(broken.stderr.contains("the crate in broken does not build"), "{}", broken.stderr);

    bench.write("broken/src/lib.rs", "//! A library, but no plugin.\n");
    let nothing = bench.sapwood(&["plugin", "build", "broken"]);
    assert_eq!(nothing.code, Some(5), "{}", nothing.said());
    assert!(nothing.stderr.contains("is a shared library, but not a sapwood plugin"), "{}", nothing.stderr);

    let manifest = fs::read_to_string(bench.path("broken/Cargo.toml")).expect("it was written");
    bench.write("broken/Cargo.toml", manifest.replace("\"cdylib\"", "\"rlib\""));
    let rlib = bench.sapwood(&["plugin", "build", "broken"]);
    assert_eq!(rlib.code, Some(3), "{}", rlib.said());
    assert!(rlib.stderr.contains("makes 0 shared libraries, not one"), "{}", rlib.stderr);

    bench.set_variable("CARGO", "no-such-cargo");
    let no_cargo = bench.sapwood(&["plugin", "build", "broken"]);
    assert_eq!(no_cargo.code, Some(8), "{}", no_cargo.said());
    assert!(no_cargo.stderr.contains("`no-such-cargo` cannot be run"), "{}", no_cargo.stderr);
}

#[test]
fn what_this_host_refuses_is_not_installed() {
    let mut bench = workshop();
    bench.write("text.so", "no library");
    let text = bench.sapwood(&["plugin", "install", "text.so"]);
    assert_eq!(text.code, Some(5), "{}", text.said());
    assert!(text.stderr.contains("text.so is not a shared library, or is cut short"), "{}", text.stderr);
    assert!(!bench.path("data").exists(), "nothing was made");

    open_to_all(&bench.path("data/sapwood/plugins"));
    let library = misbehaving().to_str().expect("a path in plain text");
    let open = bench.sapwood(&["plugin", "install", library]);
    assert_eq!(open.code, Some(5), "{}", open.said());
    assert!(open.stderr.contains("which is writable by everybody"), "{}", open.stderr);
    assert_eq!(fs::read_dir(bench.path("data/sapwood/plugins")).expect("it is there").count(), 0);
    assert!(!bench.is_marked(), "code of the library has run");

    // A relative one counts as none, and without cargo this bench has no HOME either.
    bench = Bench::new();
    bench.set_variable("XDG_DATA_HOME", "relative");
    let nobody = bench.sapwood(&["plugin", "install", library]);
    assert_eq!(nobody.code, Some(3), "{}", nobody.said());
}

fn open_to_all(folder: &Path) {
    fs::create_dir_all(folder).expect("room");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).expect("it is ours");
    }
}
