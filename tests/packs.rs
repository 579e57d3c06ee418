//! Packs: libraries for several machines in one file; what does not fit this machine is refused with what it needs
//! and what is here.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{self, Bench, Ran};

fn library() -> &'static Path {
    let mut all = support::built_plugins().iter();
    all.find(|path| path.to_string_lossy().contains("init_copy")).expect("it is built with all others")
}

/// A library in which these bytes are others of the same length.
fn changed(bench: &Bench, name: &str, from: &str, to: &str) -> PathBuf {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(library()).expect("it was built");
    let mut found = 0;
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
            found += 1;
        }
    }
    assert!(found > 0, "the library does not name {from}");
    fs::create_dir_all(bench.path(name)).expect("room");
    let path = bench.path(name).join(library().file_name().expect("a file"));
    fs::write(&path, bytes).expect("room");
    path
}

fn workshop() -> Bench {
    let mut bench = Bench::new();
    let data = bench.path("data").display().to_string();
    bench.set_variable("XDG_DATA_HOME", &data);
    bench
}

fn pack(bench: &Bench, libraries: &[&Path]) -> Ran {
    let libraries = libraries.iter().map(|path| path.to_str().expect("a path in plain text"));
    let args: Vec<&str> =
        ["plugin", "pack"].into_iter().chain(libraries).chain(["--out", "a.sapwood-pack"]).collect();
    bench.sapwood(&args)
}

fn refused(ran: &Ran, words: &str) {
    assert_eq!(ran.code, Some(5), "{}", ran.said());
    assert!(ran.stderr.contains(words), "`{words}` is missing:\n{}", ran.stderr);
}

const HERE: &str = "x86_64-unknown-linux-gnu";

#[test]
fn a_pack_brings_the_library_for_this_machine() {
    let bench = workshop();
    let other = changed(&bench, "other", HERE, "aarch6-unknown-linux-gnu");
    let packed = pack(&bench, &[library(), &other]).good();
    assert!(packed.contains(HERE) && packed.contains("aarch6-unknown-linux-gnu"), "{packed}");
    bench.sapwood(&["plugin", "install", "a.sapwood-pack"]).good();
    let installed = bench.path("data/sapwood/plugins").join(library().file_name().expect("a file"));
    let bytes = |path: &Path| fs::read(path).expect("it is there");
    assert!(bytes(&installed) == bytes(library()), "the library for this machine");

    pack(&bench, &[&other]).good();
    let ran = bench.sapwood(&["plugin", "install", "a.sapwood-pack"]);
    refused(&ran, "has no library for x86_64-unknown-linux-gnu, only for aarch6-unknown-linux-gnu");
}

#[test]
fn a_newer_c_library_is_named_with_the_one_that_is_here() {
    let bench = workshop();
    let newer = changed(&bench, "newer", "GLIBC_2.34", "GLIBC_9.87");
    let path = newer.to_str().expect("a path in plain text");
    for command in ["install", "inspect"] {
        refused(&bench.sapwood(&["plugin", command, path]), "needs glibc 9.87, and this machine has 2.");
    }
    let packed = pack(&bench, &[&newer]).good();
    assert!(packed.contains("needs glibc 9.87"), "{packed}");
    refused(&bench.sapwood(&["plugin", "install", "a.sapwood-pack"]), "needs glibc 9.87");
    assert!(!bench.path("data").exists(), "nothing was installed");
}

#[test]
fn what_is_no_pack_or_was_changed_is_refused() {
    let bench = workshop();
    let install = || bench.sapwood(&["plugin", "install", "a.sapwood-pack"]);
    refused(&install(), "cannot be read");
    bench.write("a.sapwood-pack", "no archive");
    refused(&install(), "is no pack");
    refused(&pack(&bench, &[library(), library()]), "is the second library for x86_64-unknown-linux-gnu");
    pack(&bench, &[library()]).good();
    let whole = fs::read(bench.path("a.sapwood-pack")).expect("it was made");
    bench.write("a.sapwood-pack", &whole[..whole.len() / 2]);
    refused(&install(), "is no pack, or is cut short");
    assert!(!bench.path("data").exists(), "nothing was installed");

    let out = ["plugin", "pack", library().to_str().expect("a path in plain text"), "--out", "a.zip"];
    let name = bench.sapwood(&out);
    assert_eq!(name.code, Some(3), "{}", name.said());
    assert!(name.stderr.contains("call it NAME.sapwood-pack"), "{}", name.said());
}
