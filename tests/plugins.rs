//! Whatever lies in plugins/ is found, inspected and plain safe Rust. No plugin is named here: a new one is tested
//! because it is there.

use std::fs;
use std::path::PathBuf;

use crate::support::{Bench, built_plugins, files_below, manifest, plugin_folders, root};

#[test]
fn every_plugin_is_listed_and_says_what_it_takes() {
    let bench = Bench::new();
    let listed = bench.sapwood(&["plugin", "list"]).good();
    assert!(!listed.contains("passed over"), "{listed}");
    for library in built_plugins() {
        let inspected =
            bench.sapwood(&["plugin", "inspect", library.to_str().expect("a path in plain text")]).good();
        let plugins: Vec<(&str, &str)> = inspected.lines().filter_map(headline).collect();
        assert!(!plugins.is_empty(), "{} holds no plugin:\n{inspected}", library.display());
        let schemas = inspected.matches("\"$schema\"").count();
        assert_eq!(schemas, plugins.len(), "each plugin has a schema:\n{inspected}");
        for (kind, id) in plugins {
            assert!(stands_below(&listed, kind, id), "the {kind} {id} is not listed:\n{listed}");
            let by_id = bench.sapwood(&["plugin", "inspect", id]).good();
            assert!(by_id.contains(&format!("{kind} `{id}`")), "{by_id}");
        }
    }
}

#[test]
fn list_and_inspect_say_as_json_what_they_say_in_words() {
    let bench = Bench::new();
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&bench.sapwood(args).good()).expect("JSON was asked for")
    };
    let listed = json(&["plugin", "list", "--json"]);
    let in_words = bench.sapwood(&["plugin", "list"]).good();
    for library in listed.as_array().expect("libraries") {
        for plugin in library["facts"]["plugins"].as_array().expect("none is passed over") {
            let (kind, id) =
                (plugin["kind"].as_str().expect("a kind"), plugin["id"].as_str().expect("an id"));
            assert!(stands_below(&in_words, kind, id), "the {kind} {id} is not listed:\n{in_words}");
            let inspected = json(&["plugin", "inspect", id, "--json"]);
            assert!(inspected[0]["plugins"][0]["config_schema"]["$schema"].is_string(), "{inspected}");
        }
    }
}

#[test]
fn every_plugin_has_a_page_that_names_each_of_its_keys() {
    let bench = Bench::new();
    for library in built_plugins() {
        let library = library.to_str().expect("a path in plain text");
        let page = bench.sapwood(&["plugin", "inspect", library, "--markdown"]).good();
        let said = bench.sapwood(&["plugin", "inspect", library, "--json"]).good();
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON was asked for");
        for (plugin, facts) in plugins_of(&said[0], "/plugins").zip(plugins_of(&said[0], "/facts/plugins")) {
            let (id, source) = (text_of(plugin, "id"), text_of(facts, "homepage"));
            assert!(page.contains(&format!("# `{id}`\n")), "{page}");
            assert!(source.is_empty() || page.contains(&format!("Source: <{source}>")), "{page}");
            let of_itself = plugin["config_schema"]["x-page"].as_str().expect("its source says what it is");
            assert!(of_itself.len() > 40 && page.contains(of_itself), "{id}: {of_itself}");
            let keys = plugin["config_schema"]["properties"].as_object().into_iter().flatten();
            for (key, _) in keys {
                let row = page.lines().find(|line| line.starts_with(&format!("| `{key}` | ")));
                let row = row.unwrap_or_else(|| panic!("{id}: `{key}` has no row:\n{page}"));
                assert!(!row.ends_with("|  |") && !row.contains("| anything |"), "{id}: {row}");
            }
        }
    }
}

/// Where what studies found begins on a page: `.ci/pages` has written it, and here it is whatever it was.
const FOUND: &str = "\n## Our numbers\n";

#[test]
fn the_docs_have_every_methods_page_and_the_readme_its_row() {
    let bench = Bench::new();
    let readme = fs::read_to_string(root().join("README.md")).expect("the front door");
    let mut pages = 0;
    for library in built_plugins() {
        let library = library.to_str().expect("a path in plain text");
        let said = bench.sapwood(&["plugin", "inspect", library, "--json"]).good();
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON was asked for");
        for plugin in plugins_of(&said[0], "/plugins").filter(|plugin| plugin["kind"] != "reporter") {
            let id = text_of(plugin, "id");
            let now = bench.sapwood(&["plugin", "inspect", id, "--markdown"]).good();
            let name = id.rsplit('/').next().expect("an id has a name");
            let page = root().join(format!("docs/methods/{name}.md"));
            let mut written = fs::read_to_string(&page).unwrap_or_default();
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                let found = written.find(FOUND).map_or("", |place| &written[place..]);
                written = format!("{}\n{found}", now.trim_end());
                fs::write(&page, &written).expect("the repository can be written");
            }
            // What the binary says is compared without spaces at the ends of its lines.
            let written: String = written.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
            assert!(
                written.starts_with(now.trim_end()),
                "{} is not what the plugin says; UPDATE_EXPECT=1 writes it anew",
                page.display()
            );
            let row = format!("| {} | `{id}` | ", text_of(plugin, "kind"));
            assert!(readme.contains(&row), "README.md has no row of {id} below \"In the box\"");
            pages += 1;
        }
    }
    let there = fs::read_dir(root().join("docs/methods")).expect("the pages").count();
    assert_eq!(there, pages, "a page of a method that is gone");
    let rows = ["| strategy | `", "| initializer | `"].map(|row| readme.matches(row).count());
    assert_eq!(rows.iter().sum::<usize>(), pages, "README.md has a row of a method that is gone");
}

/// What a finished study found stands on the pages of its plugins, and nowhere else.
#[test]
fn a_page_tells_what_a_study_found() {
    let bench = Bench::new();
    let inspect = |id: &str| bench.sapwood(&["plugin", "inspect", id, "--markdown", "--study", "study.toml"]);
    assert!(
        inspect("sapwood/stack").said().contains("holds no study"),
        "{}",
        inspect("sapwood/stack").said()
    );
    bench.sapwood(&["study", "study.toml", "--jobs", "1"]).good();
    let page = inspect("sapwood/stack").good();
    let numbers = page.split_once("## Our numbers").unwrap_or_else(|| panic!("{page}")).1;
    assert!(numbers.contains("`sapwood study study.toml` (tiny; the whole model ends at "), "{numbers}");
    let row = numbers.lines().find(|line| line.starts_with("| stack | ")).expect("its arm");
    let made_of = "| `sapwood/stack { factor = 2, grow_after_steps = 15, optimizer = \"copy\" }`, `sapwood/copy` | 2 | ";
    assert!(row.contains(made_of) && row.contains(" [") && row.ends_with(" |"), "{row}");
    assert!(inspect("sapwood/copy").good().contains("| stack | "));
    assert!(!inspect("sapwood/lerp").good().contains("## Our numbers"));
    std::fs::remove_file(bench.path("runs/tiny/runs/stack/compute/seed-1/DONE")).expect("a finished run");
    let unfinished = inspect("sapwood/stack");
    assert_eq!(unfinished.code, Some(3), "{}", unfinished.said());
    assert!(
        unfinished.stderr.contains("is not finished: 1 of its runs have no result"),
        "{}",
        unfinished.said()
    );
}

fn plugins_of<'a>(said: &'a serde_json::Value, pointer: &str) -> impl Iterator<Item = &'a serde_json::Value> {
    said.pointer(pointer).and_then(serde_json::Value::as_array).expect("plugins").iter()
}

fn text_of<'a>(said: &'a serde_json::Value, key: &str) -> &'a str {
    said[key].as_str().expect("text")
}

/// Kind and id in a line like "strategy `a/b` 1.0.0 (MIT)".
fn headline(line: &str) -> Option<(&str, &str)> {
    let (kind, rest) = line.split_once(" `")?;
    let (id, _) = rest.split_once('`')?;
    ["strategy", "initializer", "reporter"].contains(&kind).then_some((kind, id))
}

/// Whether a list has the id below the heading of its kind.
fn stands_below(listed: &str, kind: &str, id: &str) -> bool {
    let below =
        listed.lines().skip_while(|line| *line != kind).skip(1).take_while(|line| line.starts_with("  "));
    below.map(str::trim).any(|line| line.split_whitespace().next() == Some(id))
}

#[test]
fn every_plugin_is_a_short_manifest_and_a_file_a_method_of_plain_safe_rust() {
    for folder in plugin_folders() {
        let name = folder.display();
        let manifest = manifest(&folder);
        let kinds = manifest["lib"]["crate-type"].as_array().expect("a list").clone();
        assert_eq!(kinds, [toml::Value::from("cdylib")], "{name} is a shared library and nothing else");
        let (sources, others): (Vec<PathBuf>, Vec<PathBuf>) =
            files_below(&folder).into_iter().partition(|path| path.starts_with(folder.join("src")));
        assert_eq!(others, [folder.join("Cargo.toml")], "{name}");
        let read = |path: &PathBuf| fs::read_to_string(path).expect("it was just listed");
        let source: String = sources.iter().map(read).collect();
        // One file, or one for what several methods share and one for each of them.
        let methods = source.matches("include_str!(").count();
        assert!(sources.len() == 1 || sources.len() == 1 + methods, "{name}: {sources:?}, {methods} methods");
        let code: String = source
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| format!("{line}\n"))
            .collect();
        for word in words(&code) {
            let is_abi = ["RStr", "RString", "RVec", "RSlice", "RSliceMut", "RResult", "ROption", "RBox"]
                .contains(&word);
            assert!(
                !is_abi && word != "unsafe" && word != "extern" && word != "abi_stable",
                "{name} says `{word}`"
            );
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}
