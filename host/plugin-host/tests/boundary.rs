//! Real libraries across the real border: every function of every interface, both halves, in one process.
//! `.ci/asan` runs this under AddressSanitizer. Libraries that misbehave are `tests/` of the command line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use plugin_host::api::{
    Action, ActionSink, Actions, Block, BlockView, Budget, Claim, Event, InitContext, Key, LayerId,
    ModelFacts, MomentsRule, Pass, Pushed, Replace, Result, Role, RunEvent, RunFacts, SessionFacts,
    StepContext, TensorMut, TensorView,
};
use plugin_host::{Choice, Isolation, PluginError, Registry, SearchPath};

/// Builds the plugins into the folder that this test was built into, in the same profile and target.
fn plugin_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let test = std::env::current_exe().expect("a running test has a file");
        // target/PROFILE/deps/TEST, or target/TRIPLE/PROFILE/deps/TEST.
        let folder = test.ancestors().nth(2).expect("a test lies that deep").to_path_buf();
        let above = folder.parent().expect("a profile's folder lies below the target's");
        let mut cargo = Command::new(env!("CARGO"));
        let plugins =
            ["strategy-stack", "strategy-doubling", "strategy-layer-drop", "init-zero-out", "report-csv"];
        cargo.arg("build").args(plugins.iter().flat_map(|plugin| ["-p", plugin]));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let triple = above.file_name().and_then(|name| name.to_str()).filter(|name| name.contains("-linux-"));
        match triple {
            Some(triple) => cargo.arg("--target").arg(triple).arg("--target-dir").arg(above.join("..")),
            None => cargo.arg("--target-dir").arg(above),
        };
        assert!(cargo.status().expect("cargo runs").success(), "the plugins build");
        folder
    })
}

fn registry() -> Registry {
    Registry::scan(SearchPath(vec![plugin_folder().to_path_buf()]))
}

fn choice(id: &str, config: serde_json::Value) -> Choice {
    Choice { id: id.into(), library: None, isolation: Isolation::None, config }
}

fn facts() -> RunFacts {
    RunFacts {
        model: ModelFacts {
            layers: 4,
            width: 2,
            heads: 1,
            context: 8,
            vocabulary: 16,
            init_std: 0.02,
            mlp_width: 0,
        },
        tokens_per_step: 16,
        budget: Budget { reference_steps: 10, flops: Some(1e9) },
        constant_rate: true,
        key: Key::of_seed(1),
    }
}

/// Takes everything; answers new blocks from 2 on.
#[derive(Default)]
struct Taking(Vec<Action>);

impl ActionSink for Taking {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        let answer = match &action {
            Action::Insert(_) => Pushed::FirstLayer(LayerId(2)),
            _ => Pushed::Taken,
        };
        self.0.push(action);
        Ok(answer)
    }
}

fn context<'a>(step: u64, blocks: &'a [Block]) -> StepContext<'a> {
    StepContext {
        step,
        tokens: step * 16,
        flops: 0.0,
        learning_rate: 1e-3,
        progress: 0.5,
        phase: "shallow",
        blocks,
        losses: &[],
        evaluations: &[],
    }
}

#[test]
fn a_strategy_plans_decides_saves_and_goes_on() {
    let config = serde_json::json!({ "factor": 2, "grow_after_steps": 5, "optimizer": "reset", "schedule": "restart" });
    let mut strategy =
        registry().strategy(&choice("sapwood/stack", config)).expect("it is there and takes this");
    let plan = strategy.call(|plugin| plugin.plan(&facts())).expect("a model that it can stack");
    assert_eq!((plan.initial_depth, plan.deepest, plan.slots), (2, 4, vec!["new_blocks".to_owned()]));
    let blocks = [0, 1].map(|id| Block { id: LayerId(id), born_at_step: 0, trains: 1 });
    let mut sink = Taking::default();
    for step in 0..6 {
        let asked =
            strategy.call(|plugin| plugin.before_step(&context(step, &blocks), &mut Actions::new(&mut sink)));
        asked.expect("nothing is refused");
    }
    let kinds: Vec<String> = sink.0.iter().map(|action| format!("{action:?}")).collect();
    assert_eq!(sink.0.len(), 5, "{kinds:?}");
    let Action::Insert(insert) = &sink.0[1] else { panic!("the stack is repeated first: {kinds:?}") };
    assert_eq!(insert.sources, [LayerId(0), LayerId(1)]);
    assert_eq!(insert.moments, MomentsRule::Zero);
    let event = Event::Evaluated { step: 6, loss_nats_per_token: 2.0 };
    strategy.call(|plugin| plugin.on_event(&event, &mut Actions::new(&mut sink))).expect("it does not mind");
    let saved = strategy.call(|plugin| plugin.save()).expect("it has no state");
    strategy.call(|plugin| plugin.restore(&saved)).expect("what it saved");
    let wrong = plugin_host::api::Saved { version: 99, bytes: vec![] };
    let error = strategy.call(|plugin| plugin.restore(&wrong)).expect_err("another version");
    assert_eq!(error.message(), "the saved state has version 99, this plugin reads 0");
}

#[test]
fn what_runs_crosses_pass_by_pass_with_gates_and_masks() {
    let config = serde_json::json!({
        "drop": { "rule": "constant", "rate": 0.5 }, "granularity": "sequence", "scale": "inverse",
    });
    let chosen = registry().strategy(&choice("sapwood/layer-drop", config));
    let mut strategy = chosen.expect("it is there and takes this");
    let plan = strategy.call(|plugin| plugin.plan(&facts())).expect("a model with blocks");
    assert!(plan.executes && plan.measure.is_none());
    let blocks = [0, 1, 2, 3].map(|id| Block { id: LayerId(id), born_at_step: 0, trains: 1 });
    let mut sink = Taking::default();
    for step in 1..40 {
        let asked =
            strategy.call(|plugin| plugin.before_step(&context(step, &blocks), &mut Actions::new(&mut sink)));
        asked.expect("nothing is refused");
    }
    let executed = sink.0.iter().filter_map(|action| match action {
        Action::Execute(passes) => Some(passes),
        _ => None,
    });
    let passes: Vec<&Pass> = executed.flatten().collect();
    assert!(passes.iter().all(|pass| pass.attention_gate == 2.0 && pass.mlp_gate == 2.0 && pass.layer.0 < 4));
    // Two sequences a step, each of which passes through a block every other time.
    let masks: BTreeSet<&Option<Vec<bool>>> = passes.iter().map(|pass| &pass.sequences).collect();
    let both = [None, Some(vec![false, true]), Some(vec![true, false])];
    assert_eq!(masks, both.iter().collect());
}

#[test]
fn what_is_to_be_made_anew_crosses_after_what_is_inserted() {
    let config = serde_json::json!({
        "fractions": [0.5, 0.5], "optimizer": "copy", "order": "interleave", "renew_sources": true,
    });
    let chosen = registry().strategy(&choice("sapwood/doubling", config));
    let mut strategy = chosen.expect("it is there and takes this");
    strategy.call(|plugin| plugin.plan(&facts())).expect("a model that it can double");
    let blocks = [0, 1].map(|id| Block { id: LayerId(id), born_at_step: 0, trains: 1 });
    let mut sink = Taking::default();
    let asked =
        strategy.call(|plugin| plugin.before_step(&context(5, &blocks), &mut Actions::new(&mut sink)));
    asked.expect("nothing is refused");
    let (layers, slot) = (vec![LayerId(0), LayerId(1)], "new_blocks".to_owned());
    let wanted = Replace { sources: layers.clone(), layers, slot, moments: MomentsRule::CopyFromSource };
    assert_eq!(sink.0[2], Action::Replace(wanted));
}

#[test]
fn an_error_and_a_refusal_come_back_as_they_were() {
    struct Refusing;
    impl ActionSink for Refusing {
        fn push(&mut self, _: Action) -> Result<Pushed> {
            Err(plugin_host::api::Error::new("not today"))
        }
    }
    let config = serde_json::json!({ "factor": 3, "grow_after_steps": 5, "optimizer": "copy" });
    let mut strategy =
        registry().strategy(&choice("sapwood/stack", config)).expect("it is there and takes this");
    let error = strategy.call(|plugin| plugin.plan(&facts())).expect_err("3 does not divide 4");
    assert_eq!((error.message(), error.field()), ("a factor of 3 does not divide 4 layers", Some("factor")));
    let asked =
        strategy.call(|plugin| plugin.before_step(&context(0, &[]), &mut Actions::new(&mut Refusing)));
    assert_eq!(asked.expect_err("the refusal goes up").message(), "not today");
}

#[test]
fn a_configuration_that_does_not_fit_names_its_key() {
    let cases = [
        (serde_json::json!({ "factor": 2, "optimiser": "copy" }), "optimiser"),
        (serde_json::json!({ "factor": "two", "optimizer": "copy" }), "factor"),
        (serde_json::json!({ "factor": 1, "optimizer": "copy", "grow_after_steps": 3 }), "factor"),
    ];
    for (config, key) in cases {
        match registry().strategy(&choice("sapwood/stack", config)).map(|_| ()) {
            Err(PluginError::BadConfig { field, .. }) => assert_eq!(field, key),
            other => panic!("{key}: {other:?}"),
        }
    }
}

#[test]
fn an_initializer_fills_in_what_it_is_given() {
    let mut initializer =
        registry().initializer(&choice("sapwood/zero-out", serde_json::json!({}))).expect("it is there");
    assert_eq!(initializer.call(|plugin| plugin.moments()), MomentsRule::Zero);
    let shape = [2u64, 2];
    let view = |class, role, values| TensorView { class, role, shape: &shape, values };
    let source = [
        view("a", Role::WEIGHT, &[1.0, 2.0, 3.0, 4.0]),
        view("b", Role::BRANCH_OUTPUT_WEIGHT, &[5.0, 6.0, 7.0, 8.0]),
    ];
    let existing = [BlockView { id: LayerId(0), tensors: &source }];
    let context = InitContext {
        layer: LayerId(1),
        position: 1,
        depth_before: 1,
        depth_after: 2,
        final_depth: 4,
        init_std: 0.02,
        key: Key::of_seed(1),
        source: Some(LayerId(0)),
        existing: &existing,
        original: &[],
    };
    let (mut a, mut b) = ([f32::NAN; 4], [f32::NAN; 4]);
    let mut target = [
        TensorMut { class: "a", role: Role::WEIGHT, shape: &shape, values: &mut a },
        TensorMut { class: "b", role: Role::BRANCH_OUTPUT_WEIGHT, shape: &shape, values: &mut b },
    ];
    let claim = initializer.call(|plugin| plugin.init(&context, &mut target)).expect("a source is there");
    assert_eq!((claim, a, b), (Claim::Exact, [1.0, 2.0, 3.0, 4.0], [0.0; 4]));
    let nowhere = InitContext { source: Some(LayerId(7)), ..context };
    let mut target = [TensorMut { class: "a", role: Role::WEIGHT, shape: &shape, values: &mut a }];
    let error =
        initializer.call(|plugin| plugin.init(&nowhere, &mut target)).expect_err("there is no block 7");
    assert_eq!(error.message(), "the source block 7 did not stand before this growth");
}

#[test]
fn a_reporter_sees_every_event() {
    let mut reporter =
        registry().reporter(&choice("sapwood/csv", serde_json::json!({}))).expect("it is there");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let session = SessionFacts { study: "s".into(), folder: folder.path().into(), runs: 1, terminal: false };
    reporter.call(|plugin| plugin.start(&session)).expect("nothing to do");
    let run = "a/tokens/seed-1".to_owned();
    let started =
        RunEvent::RunStarted { run: run.clone(), folder: folder.path().into(), first_step: 0, most_steps: 1 };
    reporter.call(|plugin| plugin.event(&started)).expect("room for the tables");
    let evaluated = RunEvent::Evaluated { run, step: 0, tokens: 0, loss_nats_per_token: 5.5 };
    reporter.call(|plugin| plugin.event(&evaluated)).expect("room for a row");
    reporter.call(|plugin| plugin.flush()).expect("room");
    reporter.call(|plugin| plugin.finish()).expect("room");
    let text = std::fs::read_to_string(folder.path().join("evaluations.csv")).expect("the table");
    assert_eq!(text, "step,tokens,loss_nats_per_token\n0,0,5.5\n");
}

#[test]
fn a_schema_says_what_a_plugin_takes() {
    let registry = registry();
    let found = registry.find(plugin_host::api::Kind::Strategy, "sapwood/stack").expect("it is there");
    let schema =
        registry.schema(plugin_host::api::Kind::Strategy, "sapwood/stack", &found.path).expect("a schema");
    assert!(schema.contains("\"factor\"") && schema.contains("Growth factor"), "{schema}");
}
