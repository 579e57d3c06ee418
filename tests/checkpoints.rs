//! `sapwood checkpoint`: what is listed, what is found damaged, what is removed.

use std::fs;

use crate::support::Bench;

#[test]
fn checkpoints_are_listed_verified_and_pruned() {
    let bench = Bench::new();
    bench.study().good();
    let run = "out/runs/whole/tokens/seed-1";
    let listed = bench.sapwood(&["checkpoint", "list", run]).good();
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(names, ["00000040", "00000030"], "{listed}");
    assert_eq!(
        bench.sapwood(&["checkpoint", "list", "out"]).good().lines().count(),
        8,
        "four runs, two each"
    );

    assert_eq!(bench.sapwood(&["checkpoint", "verify", run]).good(), listed, "all are whole");
    let weights = bench.path(run).join("checkpoints/00000040/weights.safetensors");
    let mut bytes = fs::read(&weights).expect("a checkpoint");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).expect("room");
    let verified = bench.sapwood(&["checkpoint", "verify", "out"]);
    assert_eq!(verified.code, Some(8), "{}", verified.said());
    let damaged = "weights.safetensors is not what was written (its hash differs)";
    assert!(
        verified.stdout.lines().filter(|line| line.ends_with(damaged)).count() == 1,
        "{}",
        verified.said()
    );
    assert!(verified.stderr.starts_with("1 of 8 are damaged"), "{}", verified.said());
    let json = bench.sapwood(&["checkpoint", "verify", run, "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert!(json[0]["damage"].is_string() && json[1].get("damage").is_none(), "{json}");

    let pruned = bench.sapwood(&["checkpoint", "prune", "out", "--keep", "1"]).good();
    assert!(pruned.lines().count() == 5 && pruned.contains("\n4 removed, "), "{pruned}");
    assert_eq!(bench.sapwood(&["checkpoint", "list", "out"]).good().lines().count(), 4);
    let nothing = bench.sapwood(&["checkpoint", "list", "nothing"]);
    assert!(nothing.code == Some(3) && nothing.stderr.contains("holds neither a run"), "{}", nothing.said());
}
