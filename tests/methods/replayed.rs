//! Every strategy, asked once more about its own run: it decides as it did.

use super::pairs::{STRATEGIES, WITHOUT_GROWTH, bench, run_of};
use crate::support::json_lines;

#[test]
fn replayed_on_its_own_run_every_strategy_decides_as_it_did() {
    let bench = bench();
    for strategy in &STRATEGIES {
        let initializer = if strategy.names_sources { "copy-noise" } else { "original" };
        bench.add_to_study(&format!(
            "\n[arms.{}]\nstrategy = {{ {} }}\ninitializers.new_blocks = {{ use = \"sapwood/{initializer}\" }}\n",
            strategy.name, strategy.chosen
        ));
    }
    for (name, chosen) in WITHOUT_GROWTH {
        bench.add_to_study(&format!("\n[arms.{name}]\nstrategy = {{ {chosen} }}\n"));
    }
    bench.study().good();
    let names = STRATEGIES.iter().map(|strategy| strategy.name).chain(WITHOUT_GROWTH.map(|(name, _)| name));
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
