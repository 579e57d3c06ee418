//! `sapwood plugin new`: a ready crate outside any workspace, made of one of the project's example plugins with other
//! names in it. Not here: building it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use trainer::ErrorClass;

use super::facts::print_json;
use crate::Outcome;
use crate::args::{KindName, NewArgs};
use crate::failure::Failed;
use crate::output::result_line;

/// An example plugin: what it is called, and its files.
struct Example {
    name: &'static str,
    files: [(&'static str, &'static str); 4],
}

/// The files of the crate in `examples/`.
macro_rules! example {
    ($name:literal) => {
        Example {
            name: $name,
            files: [
                ("Cargo.toml", include_str!(concat!("../../../../../examples/", $name, "/Cargo.toml"))),
                ("README.md", include_str!(concat!("../../../../../examples/", $name, "/README.md"))),
                (".gitignore", include_str!(concat!("../../../../../examples/", $name, "/.gitignore"))),
                ("src/lib.rs", include_str!(concat!("../../../../../examples/", $name, "/src/lib.rs"))),
            ],
        }
    };
}

const STRATEGY: Example = example!("every-so-often");
const INITIALIZER: Example = example!("quiet-copy");
const REPORTER: Example = example!("best-loss");

/// How the examples depend on the crate.
const EXAMPLES_DEPENDENCY: &str = "{ path = \"../../plugin-api\" }";

const A_PLUGIN: &str = "a plugin's name";

/// Names that cargo or the compiler keep for themselves, or that a plugin depends on.
const TAKEN: [&str; 17] = [
    "abi-stable",
    "alloc",
    "build",
    "core",
    "deps",
    "examples",
    "incremental",
    "plugin",
    "proc-macro",
    "sapwood",
    "sapwood-plugin",
    "schemars",
    "serde",
    "serde-json",
    "std",
    "target",
    "test",
];

pub(crate) fn new(args: &NewArgs) -> Outcome {
    check_name(A_PLUGIN, &args.name)?;
    check_name("an author's name", &args.author)?;
    let dependency = dependency(args.sdk.as_deref())?;
    let folder = args.path.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if folder.symlink_metadata().is_ok() {
        let message = format!("{} is there already", folder.display());
        return Err(config(message, "choose another name, or another place with --path"));
    }
    let example = match args.kind {
        KindName::Strategy => STRATEGY,
        KindName::Initializer => INITIALIZER,
        KindName::Reporter => REPORTER,
    };
    let above = above(&folder);
    if !above.is_dir() {
        return Err(config(format!("there is no folder {}", above.display()), "create it, or name another"));
    }
    write_folder(&folder, &renamed(&example, args, &dependency)).map_err(|error| {
        let message = format!("{} cannot be made: {error}", folder.display());
        Failed::new(ErrorClass::Resource, message, "check the disk and the permissions")
    })?;
    let id = id(args);
    if args.json {
        print_json(&json!({ "folder": folder, "kind": args.kind.kind(), "id": id }))?;
        return Ok(ExitCode::SUCCESS);
    }
    result_line!("{} holds the {} `{id}`: read src/lib.rs, then", folder.display(), args.kind.in_words());
    result_line!("  sapwood plugin build {}", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn config(message: String, hint: &str) -> Failed {
    Failed::new(ErrorClass::Config, message, hint)
}

fn id(args: &NewArgs) -> String {
    format!("{}/{}", args.author, args.name)
}

/// A name has to be a crate's and one half of an id.
fn check_name(what: &str, name: &str) -> Result<(), Failed> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let good = name.len() <= 64
        && name.bytes().all(allowed)
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-');
    if !good {
        let message = format!("`{name}` cannot be {what}");
        return Err(config(message, "lowercase letters, digits and - can, beginning with a letter"));
    }
    if what == A_PLUGIN && TAKEN.contains(&name) {
        return Err(config(format!("`{name}` is the name of something else"), "choose another"));
    }
    Ok(())
}

/// How the new crate's manifest says where `sapwood-plugin` is.
fn dependency(sdk: Option<&Path>) -> Result<String, Failed> {
    let Some(named) = sdk else { return Ok("\"1\"".into()) };
    let wrong = |what: String| config(what, "name the folder `plugin-api` of sapwood's sources with --sdk");
    let folder = fs::canonicalize(named)
        .map_err(|error| wrong(format!("--sdk {} cannot be found: {error}", named.display())))?;
    let manifest = fs::read_to_string(folder.join("Cargo.toml"))
        .map_err(|error| wrong(format!("--sdk {} is no crate: Cargo.toml: {error}", named.display())))?;
    if !manifest.lines().any(|line| line.trim() == "name = \"sapwood-plugin\"") {
        return Err(wrong(format!("--sdk {} is not the crate sapwood-plugin", named.display())));
    }
    let path = folder.to_str().filter(|path| !path.contains(['"', '\\']) && !path.contains(char::is_control));
    let path = path.ok_or_else(|| wrong(format!("{} cannot stand in a manifest", folder.display())))?;
    Ok(format!("{{ path = \"{path}\" }}"))
}

/// The example's files with the new plugin's names in the place of its own.
fn renamed(example: &Example, args: &NewArgs, dependency: &str) -> Vec<(&'static str, String)> {
    let text = |text: &str| {
        text.replace(&format!("example/{}", example.name), &id(args))
            .replace(example.name, &args.name)
            .replace(EXAMPLES_DEPENDENCY, dependency)
    };
    example.files.iter().map(|(path, file)| (*path, text(file))).collect()
}

fn above(folder: &Path) -> &Path {
    folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whole or not at all: a folder beside it first, then renamed.
fn write_folder(folder: &Path, files: &[(&str, String)]) -> io::Result<()> {
    let above = above(folder);
    let temporary = tempfile::Builder::new().prefix(".sapwood-new-").tempdir_in(above)?;
    let whole = temporary.path().join("crate");
    for (path, text) in files {
        let path = whole.join(path);
        fs::create_dir_all(path.parent().unwrap_or(&whole))?;
        let mut file = File::create(&path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
    }
    fs::rename(&whole, folder)?;
    File::open(above)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_an_example_is_left() {
        for (example, kind) in [
            (STRATEGY, KindName::Strategy),
            (INITIALIZER, KindName::Initializer),
            (REPORTER, KindName::Reporter),
        ] {
            let (name, author) = ("mine".to_owned(), "ada".to_owned());
            let args = NewArgs { name, author, kind, path: None, sdk: None, json: false };
            let files = renamed(&example, &args, "\"1\"");
            let all: String = files.iter().map(|(_, text)| text.as_str()).collect();
            assert!(!all.contains(example.name) && !all.contains("example/"), "{all}");
            assert!(all.contains("id: \"ada/mine\"") && all.contains("name = \"mine\""), "{all}");
            assert!(all.contains("sapwood-plugin = \"1\"\n"), "{all}");
        }
    }

    #[test]
    fn names_are_those_that_a_crate_and_an_id_can_have() {
        for good in ["a", "plateau-2", "x0"] {
            assert!(check_name(A_PLUGIN, good).is_ok(), "{good}");
        }
        for bad in ["", "2x", "-x", "x-", "Mine", "a/b", "a_b", "a b", "serde", "test", "ä", &"x".repeat(65)]
        {
            assert!(check_name(A_PLUGIN, bad).is_err(), "{bad}");
        }
    }
}
