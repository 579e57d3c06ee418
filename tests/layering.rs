//! Who may know whom, and other absences that hold the design together: read from the manifests and the files, so
//! that a drawing cannot lie. What plugins may say stands in `plugins`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::support::{files_below, manifest, plugin_folders, root};

/// The crates of the host, and the crates of ours that each may know.
const ARROWS: [(&str, &[&str]); 10] = [
    (
        "sapwood",
        &[
            "study",
            "trainer",
            "plugin-host",
            "engine",
            "engine-burn",
            "engine-cuda",
            "engine-native",
            "inference",
            "data",
        ],
    ),
    ("study", &["trainer", "plugin-host", "engine", "data"]),
    ("trainer", &["data", "plugin-host", "engine"]),
    ("data", &["engine"]),
    ("engine-burn", &["engine"]),
    ("engine-cuda", &["engine", "engine-native"]),
    ("engine-native", &["engine"]),
    ("inference", &["engine", "engine-native"]),
    ("engine", &[]),
    ("plugin-host", &["sapwood-plugin"]),
];

/// Every crate's folder: those of the host, the plugin API, the plugins.
fn crates() -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join("host")).expect("the workspace has a host").flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    folders.push(root().join("plugin-api"));
    folders.extend(plugin_folders());
    folders
}

/// The names below every table of dependencies: of the crate, of its tests, of its build, of one platform.
fn dependencies(manifest: &Table) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (key, value) in manifest {
        match value {
            Value::Table(table) if key.ends_with("dependencies") => names.extend(table.keys().cloned()),
            Value::Table(table) if key == "target" => {
                let platforms = table.values().filter_map(Value::as_table);
                names.extend(platforms.flat_map(dependencies));
            }
            _ => {}
        }
    }
    names
}

fn name_of(manifest: &Table) -> String {
    manifest["package"]["name"].as_str().expect("a package has a name").to_owned()
}

fn files_of(kind: &str, below: &Path) -> Vec<PathBuf> {
    let files = files_below(below).into_iter();
    files.filter(|path| path.extension().is_some_and(|extension| extension == kind)).collect()
}

/// Every Rust file of the project, tests and fixtures included.
fn all_rust_files() -> Vec<PathBuf> {
    ["examples", "host", "plugin-api", "plugins", "tests"]
        .iter()
        .flat_map(|folder| files_of("rs", &root().join(folder)))
        // An example that was built where it stands.
        .filter(|path| !inside(path).split('/').any(|folder| folder == "target"))
        .collect()
}

fn inside(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn a_crate_knows_only_whom_it_may() {
    let manifests: Vec<Table> = crates().iter().map(|folder| manifest(folder)).collect();
    let ours: BTreeSet<String> = manifests.iter().map(name_of).collect();
    for (folder, manifest) in crates().iter().zip(&manifests) {
        let name = name_of(manifest);
        let allowed: &[&str] = match ARROWS.iter().find(|(from, _)| *from == name) {
            Some((_, allowed)) => allowed,
            None if name == "sapwood-plugin" => &[],
            None if folder.starts_with(root().join("plugins")) => &["sapwood-plugin"],
            None => panic!("{name} is new in host/: say in ARROWS whom it may know"),
        };
        for known in dependencies(manifest).intersection(&ours) {
            assert!(allowed.contains(&known.as_str()), "{name} knows {known}, which it may not");
        }
    }
}

#[test]
fn what_is_heavy_or_dangerous_is_named_in_one_manifest() {
    let check = |dependency: &str, owner: &str| {
        for folder in crates() {
            let manifest = manifest(&folder);
            let named = dependencies(&manifest)
                .iter()
                .any(|name| name == dependency || name.starts_with(&format!("{dependency}-")));
            assert_eq!(named, name_of(&manifest) == owner, "{} and {dependency}", inside(&folder));
        }
    };
    check("burn", "engine-burn");
    check("abi_stable", "sapwood-plugin");
    check("clap", "sapwood");
}

#[test]
fn a_bare_cargo_test_does_not_build_burn() {
    let workspace = manifest(root());
    let members = workspace["workspace"]["default-members"].as_array().expect("a list");
    let heavy = ["host/sapwood", "host/engine-burn", "host/engine-cuda", "host/*"];
    assert!(
        !members.iter().any(|member| heavy.contains(&member.as_str().unwrap_or_default())),
        "{members:?}"
    );
}

#[test]
fn files_are_named_after_what_they_are_about_and_say_it() {
    let scripts = files_of("py", &root().join("tests")).into_iter();
    for path in all_rust_files().into_iter().chain(scripts) {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let nameless = ["utils", "util", "helpers", "helper", "common", "misc", "base"];
        assert!(!nameless.contains(&stem.as_str()), "{} is named after nothing", inside(&path));
    }
    for path in all_rust_files() {
        let text = fs::read_to_string(&path).expect("it was just listed");
        assert!(text.starts_with("//! "), "{} does not open with what lives there", inside(&path));
    }
}

#[test]
fn unsafe_code_stands_where_it_is_argued() {
    let allowed = [
        "plugin-api/src/abi/",
        "plugin-api/src/host.rs",
        "host/engine-cuda/src/nvidia/",
        "host/engine-cuda/tests/",
        "host/engine-native/src/cpu/",
        "host/plugin-host/src/blame/crumbs.rs",
        "host/plugin-host/src/blame/guard.rs",
        "host/plugin-host/src/isolation/tensors.rs",
        "host/sapwood/src/allocator.rs",
    ];
    // The macro writes attributes and a block into the author's crate, which the compiler calls unsafe.
    let also = ["plugin-api/src/export.rs", "tests/fixtures/misbehaving/src/lib.rs"];
    for path in all_rust_files() {
        let text = fs::read_to_string(&path).expect("it was just listed");
        let is_code = |line: &&str| !line.trim_start().starts_with("//") && !line.contains('"');
        let mut words = text
            .lines()
            .filter(is_code)
            .flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
        let name = inside(&path);
        let is_allowed = allowed.iter().chain(&also).any(|place| name.starts_with(place));
        assert!(is_allowed || words.all(|word| word != "unsafe"), "{name} has unsafe code");
    }
}

#[test]
fn no_plugin_is_named_in_the_host() {
    let ids: BTreeSet<String> =
        plugin_folders().iter().flat_map(|folder| ids_of(&folder.join("src/lib.rs"))).collect();
    assert!(ids.len() >= plugin_folders().len(), "each plugin has an id: {ids:?}");
    let sources = crates()
        .into_iter()
        .filter(|folder| folder.starts_with(root().join("host")))
        .map(|folder| folder.join("src"));
    for path in sources.flat_map(|folder| files_of("rs", &folder)) {
        let text = fs::read_to_string(&path).expect("it was just listed");
        // Help has an example that can be tried.
        let lines = text.lines().enumerate().filter(|(_, line)| !line.contains("Example: sapwood"));
        for (number, line) in lines {
            let named = ids.iter().find(|id| line.contains(id.as_str()));
            assert!(named.is_none(), "{}:{} names {named:?}", inside(&path), number + 1);
        }
    }
}

/// The ids that a plugin's source exports.
fn ids_of(source: &Path) -> Vec<String> {
    let text = fs::read_to_string(source).expect("a plugin has one file");
    let exported = text.split("sapwood_plugin::export!").nth(1).expect("a plugin exports something");
    let after = exported.split("id: \"").skip(1);
    after.filter_map(|rest| rest.split('"').next()).map(ToOwned::to_owned).collect()
}
