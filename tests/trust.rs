//! Who may bring which plugin: places that others can write to, libraries that are replaced under a running
//! study, and studies that are locked to certain bytes.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{self, Bench, Ran};

/// A study that finds `sapwood/baseline` in a folder of its own first.
fn with_own_copy() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.path("own")).expect("room");
    copy_baseline(&bench.path("own/mine.so"));
    bench
}

fn copy_baseline(to: &Path) {
    let built = support::built_plugins().iter();
    let mut built = built.filter(|path| path.to_string_lossy().contains("strategy_baseline"));
    fs::copy(built.next().expect("it is built with all others"), to).expect("room");
}

/// The same library with a few bytes more: it loads as before and is another one all the same.
fn change(library: &Path) {
    let mut bytes = fs::read(library).expect("it is there");
    bytes.extend(b"more");
    fs::write(library, bytes).expect("room");
}

fn study(bench: &Bench, flags: &[&str]) -> Ran {
    let all = ["study", "study.toml", "--out", "out", "--jobs", "1", "--plugin-path", "own"];
    bench.sapwood(&[&all[..], flags].concat())
}

fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(5), "{}", ran.said());
    for word in words {
        assert!(ran.stderr.contains(word), "`{word}` is missing:\n{}", ran.stderr);
    }
}

#[test]
fn a_locked_study_takes_the_locked_bytes_and_no_others() {
    let bench = with_own_copy();
    refused(
        &study(&bench, &["--locked"]),
        &["plugins.lock cannot be read", "run `sapwood plugin lock` first"],
    );
    let locked = bench.sapwood(&["plugin", "lock", "study.toml", "--plugin-path", "own"]).good();
    assert!(locked.contains("sapwood/baseline") && locked.contains("sapwood/copy"), "{locked}");
    study(&bench, &["--locked"]).good();
    change(&bench.path("own/mine.so"));
    fs::remove_dir_all(bench.path("out")).expect("it was made");
    let again = study(&bench, &["--locked"]);
    refused(&again, &["is not the one that ", "plugins.lock names for the strategy `sapwood/baseline`"]);
    assert!(!bench.path("out/runs").exists(), "nothing runs");
    bench.sapwood(&["plugin", "lock", "study.toml", "--plugin-path", "own"]).good();
    study(&bench, &["--locked"]).good();
}

#[test]
fn a_plugin_that_the_lock_does_not_name_is_refused() {
    let bench = with_own_copy();
    bench.sapwood(&["plugin", "lock", "study.toml"]).good();
    bench.add_to_study("\n[[reporters]]\nuse = \"sapwood/csv\"\n");
    refused(&study(&bench, &["--locked"]), &["offers the reporter `sapwood/csv`, which ", "does not name"]);
}

#[test]
fn a_lock_that_is_none_is_refused() {
    let bench = with_own_copy();
    bench.write("plugins.lock", "not = [a lock");
    refused(&study(&bench, &["--locked"]), &["plugins.lock is no lock", "run `sapwood plugin lock` again"]);
}

/// The study goes on with the bytes that it has begun with, in runs that begin later too.
#[test]
fn a_library_that_is_replaced_under_a_running_study_disturbs_nothing() {
    let expected = with_own_copy();
    study(&expected, &[]).good();

    let bench = with_own_copy();
    let all = ["study", "study.toml", "--out", "out", "--jobs", "1", "--plugin-path", "own"];
    let running = bench.start(&all);
    let since = Instant::now();
    while !bench.path("out/runs").exists() {
        assert!(since.elapsed() < Duration::from_secs(60), "the study has not begun after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::write(bench.path("own/mine.so"), b"no library any more").expect("room");
    bench.end(running).good();
    support::same_results(&expected.path("out"), &bench.path("out"));
}

#[cfg(unix)]
#[test]
fn what_everybody_can_change_is_not_loaded() {
    use std::os::unix::fs::PermissionsExt;
    let open_to_all = |place: &Path| {
        fs::set_permissions(place, fs::Permissions::from_mode(0o777)).expect("it is ours");
    };
    let refusal = |place: &str| {
        let bench = with_own_copy();
        open_to_all(&bench.path(place));
        bench.sapwood(&["plugin", "inspect", "own/mine.so"])
    };
    refused(&refusal("own/mine.so"), &["mine.so can be changed by everybody", "chmod o-w"]);
    refused(&refusal("own"), &["mine.so lies in a folder that everybody can write to", "chmod o-w"]);

    let bench = with_own_copy();
    open_to_all(&bench.path("own"));
    let listed = bench.sapwood(&["plugin", "list", "--plugin-path", "own"]).good();
    assert!(listed.contains("passed over: own/mine.so lies in a folder"), "{listed}");
}
