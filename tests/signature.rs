//! Signed libraries: a key is made, a library signed and verified, and a study held to signers that are trusted.

use std::fs;

use crate::support::{self, Bench};

/// A folder `own` with one of our libraries, signed by the key `me`.
fn signed() -> Bench {
    let bench = Bench::new();
    fs::create_dir(bench.path("own")).expect("room");
    for library in support::built_plugins() {
        fs::copy(library, bench.path("own").join(library.file_name().expect("a file"))).expect("room");
    }
    bench.sapwood(&["plugin", "sign", "--new-key", "me"]).good();
    for library in support::built_plugins() {
        let name = library.file_name().expect("a file").to_string_lossy();
        let said = bench.sapwood(&["plugin", "sign", &format!("own/{name}"), "--key", "me"]).good();
        assert_eq!(said, format!("signature: own/{name}.minisig\n"));
    }
    bench
}

fn trust(bench: &Bench, key: &str) {
    let folder = bench.path("config/sapwood/trusted-keys");
    fs::create_dir_all(&folder).expect("room");
    fs::copy(bench.path(key), folder.join("somebody.pub")).expect("room");
}

const STUDY: [&str; 9] =
    ["study", "study.toml", "--out", "out", "--jobs", "1", "--plugin-path", "own", "--signed"];

fn refused(bench: &Bench, args: &[&str], words: &str) {
    let ran = bench.sapwood(args);
    assert_eq!(ran.code, Some(5), "{}", ran.said());
    assert!(ran.stderr.contains(words), "`{words}` is missing:\n{}", ran.stderr);
}

#[test]
fn a_study_takes_what_a_trusted_key_has_signed_and_nothing_else() {
    let bench = signed();
    refused(&bench, &STUDY, "bears no good signature of a trusted key: no key is trusted");
    trust(&bench, "me.pub");
    bench.sapwood(&STUDY).good();

    bench.sapwood(&["plugin", "sign", "--new-key", "other"]).good();
    trust(&bench, "other.pub");
    refused(&bench, &STUDY, "bears no good signature of a trusted key: trusted are somebody");
    fs::remove_dir_all(bench.path("own")).expect("it was made");
    refused(&bench, &STUDY, "is not signed: ");
}

#[test]
fn verify_tells_whose_signature_it_is() {
    let bench = signed();
    let library = "own/libinit_copy.so";
    let said = bench.sapwood(&["plugin", "verify", library, "--key", "me.pub"]).good();
    assert_eq!(said, "own/libinit_copy.so is signed by `me` (file:libinit_copy.so)\n");
    let json = bench.sapwood(&["plugin", "verify", library, "--key", "me.pub", "--json"]).good();
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON was asked for");
    assert_eq!(json["signed_by"], "me");
    refused(&bench, &["plugin", "verify", library], "no key is trusted");
    let mut bytes = fs::read(bench.path(library)).expect("it is there");
    bytes[100] ^= 1;
    fs::write(bench.path(library), bytes).expect("room");
    refused(&bench, &["plugin", "verify", library, "--key", "me.pub"], "bears no good signature");
}

#[test]
fn a_key_that_is_there_is_not_overwritten_and_one_that_is_none_is_named() {
    let bench = signed();
    let again = bench.sapwood(&["plugin", "sign", "--new-key", "me"]);
    assert_eq!(again.code, Some(3), "{}", again.said());
    assert!(again.stderr.contains("no key could be made in me: File exists"), "{}", again.said());
    bench.write("none.pub", "rubbish");
    let none = bench.sapwood(&["plugin", "verify", "own/libinit_copy.so", "--key", "none.pub"]);
    assert_eq!(none.code, Some(3), "{}", none.said());
    assert!(none.stderr.contains("none.pub is no public key"), "{}", none.said());
}
