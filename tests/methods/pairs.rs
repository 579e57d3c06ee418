//! Every strategy with every initializer, in one study on the command line: what makes sense trains to its end, what does
//! not is refused with the reason before anything is trained, and no two strategies decide alike.

use std::collections::BTreeMap;
use std::path::Path;

use plugin_host::api::Kind;
use plugin_host::api::host::read_facts;
use serde_json::Value;

use crate::support::{Bench, built_plugins, json_lines};

/// A strategy as a study chooses it, for four layers and 24 steps; whether it names sources.
pub(super) struct Strategy {
    pub(super) name: &'static str,
    pub(super) chosen: &'static str,
    pub(super) names_sources: bool,
}

const fn strategy(name: &'static str, chosen: &'static str, names_sources: bool) -> Strategy {
    Strategy { name, chosen, names_sources }
}

pub(super) const STRATEGIES: [Strategy; 18] = [
    strategy(
        "paper",
        r#"use = "sapwood/paper", config = { stages = 2, freeze = "all_below", staged_steps = 20 }"#,
        false,
    ),
    strategy(
        "stack-once",
        r#"use = "sapwood/stack", config = { factor = 2, grow_after_steps = 11, optimizer = "copy" }"#,
        true,
    ),
    strategy("gradual-last", r#"use = "sapwood/gradual", config = { stages = 4, place = "last" }"#, true),
    strategy(
        "gradual-block",
        r#"use = "sapwood/gradual", config = { stages = 4, place = "mid_block" }"#,
        true,
    ),
    strategy(
        "gradual-layer",
        r#"use = "sapwood/gradual", config = { stages = 2, place = "mid_layer" }"#,
        true,
    ),
    strategy(
        "llama-pro",
        r#"use = "sapwood/gradual", config = { stages = 2, place = "each", freeze = "old_blocks" }"#,
        true,
    ),
    strategy(
        "doubling",
        r#"use = "sapwood/doubling", config = { fractions = [0.2, 0.3, 0.5], optimizer = "reset" }"#,
        true,
    ),
    strategy(
        "doubling-anew",
        r#"use = "sapwood/doubling", config = { fractions = [0.4, 0.6], optimizer = "copy", order = "interleave", renew_sources = true }"#,
        true,
    ),
    strategy(
        "mslt-frozen",
        r#"use = "sapwood/mslt", config = { stages = 4, head = "frozen", optimizer = "reset" }"#,
        true,
    ),
    strategy(
        "mslt-trains",
        r#"use = "sapwood/mslt", config = { stages = 2, head = "trains", optimizer = "copy" }"#,
        true,
    ),
    strategy(
        "graft",
        r#"use = "sapwood/graft", config = { first_layers = 3, place = "each", freeze = "all", thaw_after_fraction = 0.5 }"#,
        true,
    ),
    strategy("late-one", r#"use = "sapwood/late", config = { first_layers = 1 }"#, true),
    strategy("late-zero", r#"use = "sapwood/late", config = { first_layers = 0, tau = 0.5 }"#, false),
    strategy(
        "doubling-shuffled",
        r#"use = "sapwood/doubling", config = { fractions = [0.5, 0.5], optimizer = "copy", order = "shuffled" }"#,
        true,
    ),
    strategy(
        "doubling-fading",
        r#"use = "sapwood/doubling", config = { fractions = [0.4, 0.6], optimizer = "copy", fade_in_fraction = 0.2 }"#,
        true,
    ),
    strategy(
        "gradual-fading",
        r#"use = "sapwood/gradual", config = { stages = 2, place = "last", fade_in_fraction = 0.1 }"#,
        true,
    ),
    strategy(
        "probe",
        r#"use = "sapwood/probe", config = { fractions = [0.4, 0.6], probe_steps = 3, candidates = [{ order = "interleave", slot = "new_blocks", optimizer = "copy" }, { order = "stack", slot = "new_blocks", optimizer = "reset" }] }"#,
        true,
    ),
    strategy(
        "slope",
        r#"use = "sapwood/slope-trigger", config = { depths = [1, 2, 4], at_latest = [0.3, 0.75] }"#,
        true,
    ),
];

/// Strategies that make the model wider; they take initializers that can. `true`: in every way, and twice as wide.
const WIDENING: [(&str, &str, bool); 5] = [
    (
        "widen",
        r#"use = "sapwood/widen", config = { parts = [0.25, 0.5, 1.0], fractions = [0.25, 0.25, 0.5], optimizer = "copy" }"#,
        false,
    ),
    (
        "widen-anew",
        r#"use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.5, 0.5], optimizer = "reset" }"#,
        false,
    ),
    (
        "widen-heads",
        r#"use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.4, 0.6], axes = ["heads"], optimizer = "copy" }"#,
        false,
    ),
    (
        "widen-model",
        r#"use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.3, 0.7], axes = ["stream", "heads", "hidden_layers"], optimizer = "copy" }"#,
        true,
    ),
    (
        "widen-staged",
        r#"use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.3, 0.7], axes = ["stream", "heads", "hidden_layers"], optimizer = "staged" }"#,
        true,
    ),
];

/// Initializers for models that become wider; blocks that they are asked for otherwise are copies. `true`: only for those that
/// do so in every way.
const FOR_WIDTH: [(&str, &str, bool); 6] = [
    ("net2net", r#"use = "sapwood/net2net""#, false),
    ("net2net-noise", r#"use = "sapwood/net2net", config = { noise = 0.01 }"#, false),
    ("aki", r#"use = "sapwood/aki""#, false),
    ("lemon", r#"use = "sapwood/lemon""#, false),
    ("original", r#"use = "sapwood/original""#, false),
    ("staged", r#"use = "sapwood/staged""#, true),
];

/// Strategies that insert nothing, and so take no initializer.
pub(super) const WITHOUT_GROWTH: [(&str, &str); 11] = [
    (
        "lisa",
        r#"use = "sapwood/turns", config = { blocks = 2, every_steps = 6, order = "random", optimizer = "keep", shared = "train" }"#,
    ),
    (
        "badam",
        r#"use = "sapwood/turns", config = { blocks = 1, every_steps = 6, order = "ascending", optimizer = "reset", shared = "train" }"#,
    ),
    (
        "layer-drop",
        r#"use = "sapwood/layer-drop", config = { drop = { rule = "anneal" }, granularity = "sequence", scale = "none" }"#,
    ),
    ("raptr", r#"use = "sapwood/raptr", config = { scale = "root" }"#),
    (
        "by-gradients",
        r#"use = "sapwood/adaptive-freezing", config = { shared = "freeze", interval = 0.1, alpha = 0.5 }"#,
    ),
    ("rates-fall", r#"use = "sapwood/freeze-out", config = { embeddings = "train", interval = 0.1 }"#),
    ("rates-fall-all", r#"use = "sapwood/freeze-out", config = { embeddings = "freeze", t_0 = 0.3 }"#),
    (
        "lengths",
        r#"use = "sapwood/grow-length", config = { parts = [4, 2, 1], fractions = [0.25, 0.25, 0.5] }"#,
    ),
    (
        "restart",
        r#"use = "sapwood/restart", config = { at_fractions = [0.4], schedule = "restart", optimizer = "reset" }"#,
    ),
    ("front-frozen", r#"use = "sapwood/front-freezing", config = { embeddings = "freeze" }"#),
    ("front-open", r#"use = "sapwood/front-freezing", config = { embeddings = "train" }"#),
];

/// An initializer as a study chooses it; whether it can do without a source.
const INITIALIZERS: [(&str, &str, bool); 11] = [
    ("original", r#"use = "sapwood/original""#, true),
    ("copy", r#"use = "sapwood/copy""#, false),
    ("zero-out", r#"use = "sapwood/zero-out""#, true),
    ("ln-zero", r#"use = "sapwood/ln-zero""#, true),
    ("lerp", r#"use = "sapwood/lerp""#, false),
    ("lerp-zero", r#"use = "sapwood/lerp", config = { t = 0.25, zero_out = true }"#, false),
    ("copy-noise", r#"use = "sapwood/copy-noise""#, false),
    ("shrink-perturb", r#"use = "sapwood/shrink-perturb""#, false),
    ("split-residual", r#"use = "sapwood/split-residual", config = { copies = 2 }"#, false),
    ("ot-average", r#"use = "sapwood/ot-average", config = { heads = 2 }"#, false),
    (
        "extrapolated",
        r#"use = "sapwood/linear-combination", config = { weights = [{ offset = 0, weight = 1.5 }, { offset = -1, weight = -0.5 }] }"#,
        false,
    ),
];

/// All pairs, those that make sense or those that do not: the arm's name, and its lines.
fn arms(sensible: bool) -> impl Iterator<Item = (String, String)> {
    STRATEGIES.iter().flat_map(move |strategy| {
        let fits = move |needs_none: &bool| (*needs_none || strategy.names_sources) == sensible;
        let fitting = INITIALIZERS.iter().filter(move |(_, _, needs_none)| fits(needs_none));
        fitting.map(move |(name, initializer, _)| {
            let arm = format!("{}_{name}", strategy.name);
            let lines = format!(
                "\n[arms.{arm}]\nstrategy = {{ {} }}\ninitializers.new_blocks = {{ {initializer} }}\n",
                strategy.chosen
            );
            (arm, lines)
        })
    })
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
    let alone = |(name, chosen): &(&str, &str)| format!("\n[arms.{name}]\nstrategy = {{ {chosen} }}\n");
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
    let grown = STRATEGIES.iter().map(|strategy| (strategy.name, format!("{}_zero-out", strategy.name)));

    for (name, arm) in grown.chain(WITHOUT_GROWTH.map(|(name, _)| (name, name.to_owned()))) {
        let twin = seen.insert(format!("{:?}", decided(&run_of(&bench, &arm))), name);
        assert_eq!(twin, None, "{name} decides as another does");
    }
}

fn widening_arm(strategy: (&str, &str, bool), initializer: (&str, &str)) -> String {
    let (name, chosen, _) = strategy;
    let made_by = initializer.0;
    format!(
        "\n[arms.{name}_{made_by}]\nstrategy = {{ {chosen} }}\ninitializers.wider_layers = {{ {} }}\n",
        initializer.1
    )
}

#[test]
fn models_become_wider_by_every_initializer_that_can() {
    let bench = bench();
    let pairs =
        WIDENING.iter().flat_map(|strategy| FOR_WIDTH.iter().map(move |made_by| (*strategy, *made_by)));
    let fits =
        |((.., doubles), (.., needs_all)): &((&str, &str, bool), (&str, &str, bool))| *doubles || !needs_all;
    let pairs: Vec<_> = pairs.filter(fits).collect();
    bench.add_to_study(
        &pairs
            .iter()
            .map(|(strategy, made_by)| widening_arm(*strategy, (made_by.0, made_by.1)))
            .collect::<String>(),
    );
    bench.study().good();
    let [width, heads, mlp_width] = if at_the_quickstarts_size() { [64, 4, 256] } else { [16, 2, 64] };
    let whole = serde_json::json!({ "width": width, "heads": heads, "mlp_width": mlp_width });
    for ((strategy, ..), (made_by, ..)) in pairs {
        let run = run_of(&bench, &format!("{strategy}_{made_by}"));
        let steps = json_lines(&run.join("metrics.jsonl"));
        let loss = |step: &Value| step["loss_nats_per_token"].as_f64().expect("a number");
        let last = self::steps() - 1;
        assert!(
            steps.len() == last + 1 && loss(&steps[last]) < loss(&steps[0]) - 0.5,
            "{strategy} {made_by}"
        );
        let edits = json_lines(&run.join("decisions.jsonl")).into_iter();
        let widths: Vec<Value> = edits.filter_map(|line| line.get("widths").cloned()).collect();
        assert_eq!(
            widths.last().map(|width| width[1].clone()),
            Some(whole.clone()),
            "{strategy} {made_by}: {widths:?}"
        );
    }
}

/// An initializer for new blocks is told from one that can make a model wider before anything is trained.
#[test]
fn an_initializer_that_cannot_make_a_model_wider_is_refused() {
    let for_blocks = INITIALIZERS.iter().filter(|(name, ..)| *name != "original");
    let only_for_all = FOR_WIDTH.iter().filter(|(.., needs_all)| *needs_all);
    let cannot = for_blocks
        .map(|made_by| (made_by.0, made_by.1))
        .chain(only_for_all.map(|made_by| (made_by.0, made_by.1)));
    for made_by in cannot {
        let bench = bench();
        bench.add_to_study(&widening_arm(WIDENING[0], made_by));
        let ran = bench.study();
        assert_eq!(ran.code, Some(3), "{}: {}", made_by.0, ran.said());
        assert!(
            ran.stderr.contains("cannot do what the strategy will ask of it"),
            "{}: {}",
            made_by.0,
            ran.said()
        );
        assert!(!bench.path("out/runs").exists(), "{}: something was trained", made_by.0);
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
    assert_eq!(refused, 16, "two strategies without sources, eight initializers that need them");
}

#[test]
fn a_strategy_that_inserts_nothing_takes_no_initializer() {
    for (name, chosen) in WITHOUT_GROWTH {
        let bench = bench();
        let initializer = "initializers.new_blocks = { use = \"sapwood/copy\" }";
        bench.add_to_study(&format!("\n[arms.{name}]\nstrategy = {{ {chosen} }}\n{initializer}\n"));
        let ran = bench.study();
        assert_eq!(ran.code, Some(3), "{name}: {}", ran.said());
        assert!(ran.stderr.contains("has no slot `new_blocks`"), "{name}: {}", ran.said());
    }
}

/// So that none is forgotten: a new strategy or initializer belongs into the tables above.
#[test]
fn every_strategy_and_initializer_that_is_shipped_is_paired() {
    let grown: String = STRATEGIES.iter().map(|strategy| strategy.chosen).collect();
    let alone = WITHOUT_GROWTH.map(|(_, chosen)| chosen).concat();
    let wider =
        WIDENING.map(|(_, chosen, _)| chosen).concat() + &FOR_WIDTH.map(|(_, chosen, _)| chosen).concat();
    let paired = grown + &alone + &wider + &INITIALIZERS.map(|(_, chosen, _)| chosen).concat();
    for path in built_plugins() {
        for plugin in read_facts(path).expect("it was just built").plugins {
            // One decides nothing, the other what its program says.
            let is_elsewhere = ["sapwood/baseline", "sapwood/command"].contains(&plugin.id.as_str());
            let chosen = paired.contains(&format!("\"{}\"", plugin.id));
            assert!(chosen || is_elsewhere || plugin.kind == Kind::Reporter, "{} is not paired", plugin.id);
        }
    }
}
