//! Every strategy with every initializer, in one study on the command line: what makes sense trains to its end, what does
//! not is refused with the reason before anything is trained, and no two strategies decide alike.

use std::collections::BTreeMap;
use std::path::Path;

use plugin_host::api::Kind;
use plugin_host::api::host::read_facts;
use serde_json::Value;

use super::shipped::{
    FOR_BLOCKS, FOR_WIDTH, GROWING, Initializer, Makes, Strategy, WIDENING, WITHOUT_GROWTH, Wants, strategies,
};
use crate::support::{Bench, built_plugins, json_lines, root};

/// All pairs, those that make sense or those that do not: the arm's name, and its lines.
fn arms(sensible: bool) -> impl Iterator<Item = (String, String)> {
    GROWING.iter().flat_map(move |strategy| {
        let names_sources = strategy.makes == Makes::Blocks { from_sources: true };
        let fitting = FOR_BLOCKS
            .iter()
            .filter(move |initializer| (initializer.wants == Wants::Nothing || names_sources) == sensible);
        fitting.map(move |initializer| pair(strategy, initializer))
    })
}

/// The arm's name, and its lines.
fn pair(strategy: &Strategy, initializer: &Initializer) -> (String, String) {
    let arm = format!("{}_{}", strategy.name, initializer.name);
    let lines = strategy.arm(&arm, initializer.chosen);
    (arm, lines)
}

/// Steps that each pair is trained for.
fn steps() -> usize {
    if at_the_quickstarts_size() { 50 } else { 24 }
}

/// With `SAPWOOD_PAIRS=quickstart` pairs are trained at the size of the quickstart's model, but for its depth, which no
/// doubling divides, and on its text: a proof of minutes.
fn at_the_quickstarts_size() -> bool {
    std::env::var("SAPWOOD_PAIRS").is_ok_and(|size| size == "quickstart")
}

/// The tiny study with four layers, one seed and 24 steps, or as the quickstart has it.
pub(super) fn bench() -> Bench {
    if !at_the_quickstarts_size() {
        return tiny();
    }
    let bench = Bench::with(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        ("compare = [\"tokens\", \"compute\"]", "compare = [\"tokens\"]"),
        ("layers = 2", "layers = 4"),
        ("width = 16", "width = 64"),
        ("heads = 2", "heads = 4"),
        ("context = 16", "context = 64"),
        (
            "sequences_per_step = 4\nmicro_batch_sequences = 4",
            "sequences_per_step = 8\nmicro_batch_sequences = 8",
        ),
        ("rate = 1e-2", "rate = 3e-3"),
        ("steps = 40", "steps = 50"),
        ("every_steps = 10\nsequences = 16", "every_steps = 50\nsequences = 16"),
        ("every_steps = 10\nkeep = 2", "every_steps = 100\nkeep = 1"),
    ]);
    bench.write("text.txt", include_bytes!("../../configs/pride-and-prejudice.txt"));
    bench
}

fn tiny() -> Bench {
    Bench::with(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        ("compare = [\"tokens\", \"compute\"]", "compare = [\"tokens\"]"),
        ("layers = 2", "layers = 4"),
        ("steps = 40", "steps = 24"),
        ("every_steps = 10\nkeep = 2", "every_steps = 100\nkeep = 1"),
    ])
}

pub(super) fn run_of(bench: &Bench, arm: &str) -> std::path::PathBuf {
    bench.path(&format!("out/runs/{arm}/tokens/seed-1"))
}

/// What a run's strategy asked for, step by step, names of phases and numbers for plots aside.
fn decided(run: &Path) -> Vec<(u64, Vec<Value>)> {
    let decisions = json_lines(&run.join("decisions.jsonl")).into_iter();
    let requests = decisions.filter(|decision| decision["decision"] == "requested");
    requests
        .map(|decision| {
            let requests = decision["requests"].as_array().expect("a list").iter();
            let deeds = requests.filter(|request| request["phase"].is_null() && request["metric"].is_null());
            (decision["step"].as_u64().expect("a step"), deeds.cloned().collect())
        })
        .collect()
}

#[test]
fn every_pair_that_makes_sense_trains_and_no_two_strategies_decide_alike() {
    let bench = bench();
    let arms: Vec<(String, String)> = arms(true).collect();
    let alone = |strategy: &Strategy| strategy.arm(strategy.name, "");
    bench.add_to_study(&WITHOUT_GROWTH.iter().map(alone).collect::<String>());
    bench.add_to_study(&arms.iter().map(|(_, lines)| lines.as_str()).collect::<String>());
    bench.study().good();
    let wanted = steps();
    for (arm, _) in &arms {
        let steps = json_lines(&run_of(&bench, arm).join("metrics.jsonl"));
        // What is no number is null in JSON.
        let is_number = |step: &Value| step["loss_nats_per_token"].is_number();
        assert!(steps.len() == wanted && steps.iter().all(is_number), "{arm}: {} steps", steps.len());
        let (first, last) = (&steps[0], &steps[wanted - 1]);
        // One that grows before the first step has no step at its old depth.
        let is_deeper = |decision: &Value| {
            decision["decision"] == "edited"
                && decision["depth_before"].as_u64() < decision["depth_after"].as_u64()
        };
        let decisions = json_lines(&run_of(&bench, arm).join("decisions.jsonl"));
        assert!(decisions.iter().any(is_deeper) && last["depth"] == 4, "{arm}: {first} to {last}");
        let loss = |step: &Value| step["loss_nats_per_token"].as_f64().expect("a number");
        let (before, after) = (loss(first), loss(last));
        assert!(after < before - 0.5, "{arm} has learned nothing: {before} to {after}");
    }
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    let grown = GROWING.iter().map(|strategy| (strategy.name, format!("{}_zero-out", strategy.name)));
    let others = WITHOUT_GROWTH.iter().map(|strategy| (strategy.name, strategy.name.to_owned()));
    for (name, arm) in grown.chain(others) {
        let twin = seen.insert(format!("{:?}", decided(&run_of(&bench, &arm))), name);
        assert_eq!(twin, None, "{name} decides as another does");
    }
}

#[test]
fn models_become_wider_by_every_initializer_that_can() {
    let bench = bench();
    let fits = |strategy: &Strategy, initializer: &Initializer| {
        strategy.makes == Makes::Width { in_every_way: true } || initializer.wants == Wants::Width
    };
    let pairs = WIDENING.iter().flat_map(|strategy| {
        let fitting = FOR_WIDTH.iter().filter(move |initializer| fits(strategy, initializer));
        fitting.map(move |initializer| pair(strategy, initializer))
    });
    let pairs: Vec<(String, String)> = pairs.collect();
    bench.add_to_study(&pairs.iter().map(|(_, lines)| lines.as_str()).collect::<String>());
    bench.study().good();
    let [width, heads, mlp_width] = if at_the_quickstarts_size() { [64, 4, 256] } else { [16, 2, 64] };
    let whole = serde_json::json!({ "width": width, "heads": heads, "mlp_width": mlp_width });
    for (arm, _) in pairs {
        let run = run_of(&bench, &arm);
        let steps = json_lines(&run.join("metrics.jsonl"));
        let loss = |step: &Value| step["loss_nats_per_token"].as_f64().expect("a number");
        let last = self::steps() - 1;
        assert!(steps.len() == last + 1 && loss(&steps[last]) < loss(&steps[0]) - 0.5, "{arm}");
        let edits = json_lines(&run.join("decisions.jsonl")).into_iter();
        let widths: Vec<Value> = edits.filter_map(|line| line.get("widths").cloned()).collect();
        assert_eq!(widths.last().map(|width| width[1].clone()), Some(whole.clone()), "{arm}: {widths:?}");
    }
}

/// An initializer for new blocks is told from one that can make a model wider before anything is trained.
#[test]
fn an_initializer_that_cannot_make_a_model_wider_is_refused() {
    let for_blocks = FOR_BLOCKS.iter().filter(|initializer| initializer.name != "original");
    let only_in_every_way =
        FOR_WIDTH.iter().filter(|initializer| initializer.wants == Wants::WidthInEveryWay);
    for initializer in for_blocks.chain(only_in_every_way) {
        let bench = bench();
        let (arm, lines) = pair(&WIDENING[0], initializer);
        bench.add_to_study(&lines);
        let ran = bench.study();
        assert_eq!(ran.code, Some(3), "{arm}: {}", ran.said());
        let told = ran.stderr.contains("cannot do what the strategy will ask of it");
        assert!(told, "{arm}: {}", ran.said());
        assert!(!bench.path("out/runs").exists(), "{arm}: something was trained");
    }
}

#[test]
fn every_pair_that_does_not_is_refused_before_anything_is_trained() {
    let mut refused = 0;
    for (arm, lines) in arms(false) {
        let bench = bench();
        bench.add_to_study(&lines);
        let line = std::fs::read_to_string(bench.path("study.toml")).expect("a study").lines().count();
        let ran = bench.study();
        assert_eq!(ran.code, Some(3), "{arm}: {}", ran.said());
        for wanted in
            ["needs a source block, but the strategy names none", &arm, &format!("study.toml:{line}\n")]
        {
            assert!(ran.stderr.contains(wanted), "{arm}: {}", ran.said());
        }
        assert!(!bench.path("out/runs").exists(), "{arm}: something was trained");
        refused += 1;
    }
    let without_sources =
        GROWING.iter().filter(|strategy| strategy.makes == Makes::Blocks { from_sources: false }).count();
    let need_them = FOR_BLOCKS.iter().filter(|initializer| initializer.wants == Wants::Sources).count();
    assert_eq!(refused, without_sources * need_them);
    assert!(refused >= 16, "{refused}");
}

#[test]
fn a_strategy_that_inserts_nothing_takes_no_initializer() {
    for strategy in WITHOUT_GROWTH {
        let (bench, name) = (bench(), strategy.name);
        let initializer = "initializers.new_blocks = { use = \"sapwood/copy\" }\n";
        bench.add_to_study(&(strategy.arm(name, "") + initializer));
        let ran = bench.study();
        assert_eq!(ran.code, Some(3), "{name}: {}", ran.said());
        assert!(ran.stderr.contains("has no slot `new_blocks`"), "{name}: {}", ran.said());
    }
}

/// So that none is forgotten: a new strategy or initializer belongs into the tables of `shipped`.
#[test]
fn every_strategy_and_initializer_that_is_shipped_is_paired() {
    let initializers = FOR_BLOCKS.iter().chain(FOR_WIDTH).map(|initializer| initializer.chosen);
    let paired: String = strategies().map(|strategy| strategy.chosen).chain(initializers).collect();
    let resumed = ["configs/methods.toml", "tests/soak/more-methods.toml"]
        .map(|study| std::fs::read_to_string(root().join(study)).expect("it is there"))
        .concat();
    for path in built_plugins() {
        for plugin in read_facts(path).expect("it was just built").plugins {
            // One decides nothing, the other what its program says.
            let is_elsewhere = ["sapwood/baseline", "sapwood/command"].contains(&plugin.id.as_str());
            let chosen = paired.contains(&format!("\"{}\"", plugin.id));
            assert!(
                chosen || is_elsewhere || plugin.kind == Kind::Reporter,
                "tests/methods/shipped.rs has no row of {}",
                plugin.id
            );
            let is_resumed = resumed.contains(&format!("\"{}\"", plugin.id));
            assert!(
                is_resumed || plugin.kind != Kind::Strategy,
                "neither configs/methods.toml nor tests/soak/more-methods.toml has an arm of {}",
                plugin.id
            );
        }
    }
}
