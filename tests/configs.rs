//! Every file in configs/ is a whole study with a header, and can be planned as it stands.

use std::fs;
use std::path::PathBuf;

use crate::support::{self, Bench, files_below};

fn configs() -> Vec<PathBuf> {
    let files = files_below(&support::root().join("configs"));
    files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect()
}

/// The golden runs' configurations lack what their recordings bring along; `parity` replays them.
fn is_parity(path: &std::path::Path) -> bool {
    path.parent().is_some_and(|folder| folder.ends_with("parity"))
}

#[test]
fn every_file_opens_with_a_header() {
    for path in configs() {
        let text = fs::read_to_string(&path).expect("it was just listed");
        assert!(text.starts_with("# "), "{} has no header", path.display());
        if is_parity(&path) {
            continue;
        }
        let header: String = text.lines().take_while(|line| line.starts_with('#')).collect();
        for what in ["Question:", "Method:", "Data:", "Tokens:"] {
            assert!(header.contains(what), "the header of {} has no `{what}`", path.display());
        }
        let takes = ["Time:", "Hardware:"].iter().any(|what| header.contains(what));
        assert!(takes, "the header of {} does not say what it takes: `Time:` or `Hardware:`", path.display());
    }
}

#[test]
fn every_file_can_be_planned() {
    let planned = configs().into_iter().filter(|path| !is_parity(path));
    let mut files = 0;
    for path in planned {
        let file = path.to_str().expect("a path in plain text");
        let text = fs::read_to_string(&path).expect("it was just listed");
        if text.contains("\"python3\"") && !support::has_python() {
            continue;
        }
        let plan = Bench::new().sapwood_from(support::root(), &["plan", file, "--json"]).good();
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON was asked for");
        let arms = plan["arms"].as_array().expect("a study has arms");
        assert!(arms.len() >= 2, "{file} compares nothing");
        let trains = |arm: &serde_json::Value| arm["rehearsal"]["steps"].as_u64() > Some(0);
        assert!(arms.iter().all(trains), "an arm of {file} trains nothing");
        files += 1;
    }
    assert!(files >= 2, "quickstart.toml and the paper's study, at least");
}
