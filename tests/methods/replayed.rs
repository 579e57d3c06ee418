//! Every strategy, asked once more about its own run: it decides as it did.

use super::pairs::run_of;
use super::shipped::study_of_every_strategy;
use crate::support::json_lines;

#[test]
fn replayed_on_its_own_run_every_strategy_decides_as_it_did() {
    let (bench, names) = study_of_every_strategy();
    bench.study().good();
    for name in names {
        let decisions = json_lines(&run_of(&bench, name).join("decisions.jsonl"));
        let replayed = bench.sapwood(&["replay", &format!("out/runs/{name}/tokens/seed-1")]);
        if decisions[0]["plan"]["measure"].is_null() {
            let said = replayed.good();
            assert!(said.contains("makes the same decisions at all 24 steps"), "{name}: {said}");
        } else {
            // No log keeps what was measured, and that is said.
            let said = replayed.said();
            assert!(said.contains("was not told what it wants to have measured in steps"), "{name}: {said}");
        }
    }
}
