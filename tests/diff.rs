//! Two runs compared: bit for bit the same whoever made them, or where they part and in what.

use std::fs;

use serde_json::Value;

use crate::support::Bench;

#[test]
fn the_same_run_made_twice_has_the_same_results() {
    let bench = Bench::with(&[("seeds = [1, 2]", "seeds = [1]")]);
    bench.study().good();
    bench.sapwood(&["study", "study.toml", "--out", "again", "--jobs", "2"]).good();
    let run = "runs/stack/compute/seed-1";
    let said = bench.sapwood(&["diff", &format!("out/{run}"), &format!("again/{run}")]).good();
    for line in ["stack/compute/seed-1 -> stack/compute/seed-1: the same results", "configuration: the same"]
    {
        assert!(said.contains(line), "{said}");
    }
    assert!(said.contains("tensors are bit-identical"), "{said}");
    // One element of one tensor, in its last bit.
    let path = bench.path(&format!("again/{run}/checkpoints"));
    let mut names: Vec<_> = fs::read_dir(&path).expect("saved").flatten().map(|entry| entry.path()).collect();
    names.sort();
    let weights = names.last().expect("it was saved").join("weights.safetensors");
    let mut bytes = fs::read(&weights).expect("a file");
    let last = bytes.len() - 4;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).expect("room");
    let touched = bench.sapwood(&["diff", &format!("out/{run}"), &format!("again/{run}")]);
    assert_eq!(touched.code, Some(10), "{}", touched.said());
    assert!(touched.stdout.contains(": 1 of "), "{}", touched.stdout);
}

#[test]
fn runs_that_part_say_where_and_in_what() {
    let bench = Bench::with(&[("seeds = [1, 2]", "seeds = [1]")]);
    bench.study().good();
    bench
        .sapwood(&["study", "study.toml", "--out", "slow", "--jobs", "1", "--set", "schedule.rate=9e-3"])
        .good();
    let run = "runs/stack/compute/seed-1";
    let (old, new) = (format!("out/{run}"), format!("slow/{run}"));
    let ran = bench.sapwood(&["diff", &old, &new]);
    assert_eq!(ran.code, Some(10), "{}", ran.said());
    for line in [
        "  schedule.rate: 0.01 -> 0.009\n",
        "bound to: the same\n",
        "  learning rate at step 0: 0.0025 -> 0.00225\n",
        "  loss at step 1: ",
    ] {
        assert!(ran.stdout.contains(line), "no `{line}` in\n{}", ran.stdout);
    }
    assert!(ran.stdout.contains("tensors differ"), "{}", ran.stdout);
    let json: Value =
        serde_json::from_str(&bench.sapwood(&["diff", &old, &new, "--json"]).stdout).expect("JSON");
    assert_eq!((&json["same_results"], &json["config"][0]["key"]), (&false.into(), &"schedule.rate".into()));

    let other = bench.sapwood(&["diff", "out/runs/whole/tokens/seed-1", &old]);
    for line in [
        "  plugins.strategy.id: \"sapwood/baseline\" -> \"sapwood/stack\"\n",
        "  plugins.initializers.new_blocks: nothing -> ",
        "decisions: ",
        "  - plans 2 to 2 blocks\n",
        "  + plans 1 to 2 blocks\n",
    ] {
        assert!(other.stdout.contains(line), "no `{line}` in\n{}", other.stdout);
    }
    let nothing = bench.sapwood(&["diff", &old, "out"]);
    let wanted = "error: out holds no run: there is no run.json in it\n";
    assert!(nothing.code == Some(3) && nothing.stderr.starts_with(wanted), "{}", nothing.said());
}
