//! The rule by which the ABI grows (`plugin-api/src/abi/mod.rs`), proved with a second revision that tests make up: an
//! old library in a newer host, a newer library in an older host. The newest shared revision, or one clear refusal.

use std::process::Command;

use expect_test::expect;

use crate::support::{build_outside_with, root};

#[test]
fn the_newest_shared_revision_is_used_or_the_library_refused() {
    let fixtures = root().join("tests/fixtures/revisions");
    let library =
        |features: &[&str], name: &str| build_outside_with(&fixtures.join("library"), features, name);
    let libraries = [
        ("old library", library(&[], "revision-1.so")),
        ("newer library", library(&["newer"], "revisions-1-2.so")),
        ("library of revision 2 alone", library(&["newest-only"], "revision-2.so")),
    ];
    let host = |features: &[&str], name: &str| build_outside_with(&fixtures.join("host"), features, name);
    let hosts = [("older host", host(&[], "host-1")), ("newer host", host(&["newer"], "host-1-2"))];
    let mut table = String::new();
    for (host_name, host) in &hosts {
        for (library_name, library) in &libraries {
            let folder = tempfile::tempdir().expect("room for a temporary folder");
            let output = Command::new(host).arg(library).arg(folder.path()).output();
            let output = output.expect("it was just built");
            assert!(output.status.success(), "{host_name}, {library_name}: {output:?}");
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            // Which compiler built it is no matter here.
            let said = said.split("; it was built").next().unwrap_or_default().trim().to_owned();
            table += &format!("{host_name}, {library_name}: {said}\n");
        }
    }
    expect![[r#"
        older host, old library: revision 1, 17 events, 3 flushes
        older host, newer library: revision 1, 17 events, 3 flushes
        older host, library of revision 2 alone: refused: has the reporter interface in revision 2, where this host knows revision 1
        newer host, old library: revision 1, 17 events, 3 flushes
        newer host, newer library: revision 2, 17 events, 3 flushes
        newer host, library of revision 2 alone: revision 2, 17 events, 3 flushes
    "#]].assert_eq(&table);
}
