//! What is refused and with which words, here and on the authors' test bench; and what a taken request changes.

use engine::contract::tiny_shape;
use plugin_host::api::{self, Gate, MomentsRule, Probe, ScheduleShape, WidenedMoments};

use super::*;
use crate::course::schedule::{Schedule, ScheduleKind};

fn course() -> (Course, Rules) {
    let shape = tiny_shape();
    let schedule = Schedule {
        kind: ScheduleKind::Constant,
        rate: 1e-3,
        warmup_steps: 0,
        final_fraction: None,
        decay_fraction: None,
    };
    let rules = Rules {
        unfilled: BTreeSet::new(),
        shape: shape.clone(),
        deepest: 3,
        slots: BTreeSet::from(["new_blocks".to_owned()]),
        tokens_per_step: 8 * shape.context as u64,
        executes: true,
    };
    (Course::start(&shape, 2, 8, RunningSchedule::new(&schedule)), rules)
}

fn layer(id: u64) -> plugin_host::api::LayerId {
    plugin_host::api::LayerId(id)
}

fn insert(above: u64, count: usize) -> Action {
    Action::Insert(Insert {
        above: Above::Layer(layer(above)),
        count,
        slot: "new_blocks".into(),
        sources: vec![],
        moments: MomentsRule::Zero,
    })
}

fn replace(layers: &[u64], sources: &[u64]) -> Action {
    let (layers, sources) = [layers, sources].map(|ids| ids.iter().map(|&id| layer(id)).collect()).into();
    Action::Replace(Replace { layers, slot: "new_blocks".into(), sources, moments: MomentsRule::Zero })
}

fn gated(mlp_gate: f32) -> Action {
    Action::Execute(vec![Pass::whole(layer(0)), Pass { mlp_gate, ..Pass::whole(layer(1)) }])
}

fn masked(sequences: usize) -> Action {
    Action::Execute(vec![Pass { sequences: Some(vec![true; sequences]), ..Pass::whole(layer(0)) }])
}

fn rates(which: Which, factor: f64) -> Action {
    Action::Rates(vec![RateFactor { which, factor }])
}

fn batch(sequences: usize, length: usize) -> Action {
    Action::Batch(Batch { sequences, length })
}

fn widen(mlp_width: usize) -> Action {
    widen_to(api::Widths { mlp_width, ..told_widths(tiny_shape().widths()) })
}

fn widen_to(widths: api::Widths) -> Action {
    Action::Widen(Widen { widths, slot: "new_blocks".into(), moments: WidenedMoments::Zero })
}

/// What a course answers to a request, in words.
fn answer(action: &Action) -> String {
    let (mut course, rules) = course();
    let before = course.clone();
    match course.decide(action, &rules, Step(3), 0.1) {
        Ok(_) => format!("{:?}", course.layers().iter().map(|l| l.0).collect::<Vec<_>>()),
        Err(error) => {
            assert_eq!(course, before, "a refusal leaves no trace");
            error.to_string()
        }
    }
}

#[test]
fn blocks_go_where_they_are_asked_to() {
    assert_eq!(answer(&insert(0, 1)), "[0, 2, 1]");
    assert_eq!(answer(&insert(1, 1)), "[0, 1, 2]");
    assert_eq!(answer(&Action::Remove(vec![layer(0)])), "[1]");
}

#[test]
fn nonsense_is_refused_with_the_reason() {
    let all_frozen = Train { layers: vec![], ..Train::blocks_only(vec![]) };
    let cases = [
        (insert(7, 1), "there is no block 7"),
        (insert(1, 0), "0 blocks are to be inserted"),
        (Action::Remove(vec![layer(0), layer(0)]), "block 0 is to be removed twice"),
        (insert(1, 1_000_000_000), "1000000000 more blocks on 2 exceed the 3 that the plan announced"),
        (Action::Train(all_frozen), "nothing would train"),
        (Action::Train(Train::blocks_only(vec![layer(9)])), "there is no block 9"),
        (
            Action::Checkpoint("../up".into()),
            "`../up` cannot name a checkpoint: letters, digits, - and _ can",
        ),
        (Action::Schedule(ScheduleChange::Extend(-1.0)), "the schedule cannot be changed by Extend(-1.0)"),
        (Action::Metric { key: "x".into(), value: f64::NAN }, "the metric `x` is NaN"),
        (replace(&[9], &[]), "there is no block 9"),
        (replace(&[1, 1], &[]), "block 1 is to be replaced twice"),
        (replace(&[1], &[0, 1]), "2 sources are named for 1 blocks to replace"),
        (Action::Execute(vec![Pass::whole(layer(9))]), "there is no block 9"),
        (gated(f32::NAN), "a gate of block 1 is NaN"),
        (masked(3), "the mask of block 0 is for 3 sequences, a step has 8"),
        (Action::Accept, "there is no edit to accept or reject at this moment"),
        (
            Action::Optimizer(OptimizerRule {
                which: Which::Class("wqe".into()),
                change: OptimizerChange::Reset,
            }),
            "there is no tensor class `wqe`",
        ),
    ];
    for (action, wanted) in cases {
        assert_eq!(answer(&action), wanted);
    }
}

/// The words that the authors' test bench refuses a request with; what it knows of a stack is written a second time.
fn answer_of_the_bench(action: &Action) -> String {
    use plugin_host::api::{self, Actions, GrowthStrategy, RunFacts, StepContext, testing::SimulatedRun};

    struct Asking(Action);

    impl GrowthStrategy for Asking {
        fn plan(&mut self, _: &RunFacts) -> Result<Plan> {
            let slots = vec!["new_blocks".into()];
            Ok(Plan { slots, executes: true, ..Plan::fixed_depth(2, 3) })
        }

        fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
            if context.step == 0 {
                let _ = actions.push(self.0.clone());
            }
            Ok(())
        }

        api::stateless!();
    }

    let mut run = SimulatedRun::new(2, 2);
    let (shape, rules) = (tiny_shape(), course().1);
    (run.facts.model.context, run.facts.tokens_per_step) = (shape.context, rules.tokens_per_step);
    (run.facts.model.width, run.facts.model.heads) = (shape.width, shape.heads);
    run.facts.model.mlp_width = shape.hidden();
    let driven = run.drive(&mut Asking(action.clone())).expect("a good plan");
    match driven.refusals().next() {
        Some((_, _, reason)) => reason.to_owned(),
        None => format!("{:?}", driven.layers.iter().map(|layer| layer.0).collect::<Vec<_>>()),
    }
}

#[test]
fn the_authors_test_bench_has_the_same_rules() {
    let classes = |class: &str| Some(vec![class.to_owned()]);
    let optimizer = |which, change| Action::Optimizer(OptimizerRule { which, change });
    let actions = [
        insert(0, 1),
        insert(1, 1),
        insert(1, 0),
        insert(1, 2),
        insert(7, 1),
        Action::Insert(Insert {
            above: Above::Embedding,
            count: 1,
            slot: "other".into(),
            sources: vec![],
            moments: MomentsRule::Zero,
        }),
        Action::Insert(Insert {
            above: Above::Embedding,
            count: 1,
            slot: "new_blocks".into(),
            sources: vec![layer(0), layer(1)],
            moments: MomentsRule::Zero,
        }),
        Action::Remove(vec![layer(0)]),
        Action::Remove(vec![layer(0), layer(1)]),
        Action::Remove(vec![layer(4)]),
        Action::Remove(vec![layer(0), layer(0)]),
        Action::Train(Train::blocks_only(vec![])),
        Action::Train(Train::blocks_only(vec![layer(9)])),
        Action::Train(Train { classes: classes("wqe"), ..Train::blocks_only(vec![layer(0)]) }),
        Action::Train(Train { classes: classes("wte.weight"), ..Train::blocks_only(vec![layer(0)]) }),
        Action::Train(Train { classes: classes("mlp.c_fc.bias"), ..Train::blocks_only(vec![layer(0)]) }),
        optimizer(Which::Class("wqe".into()), OptimizerChange::Reset),
        optimizer(Which::Layers(vec![layer(9)]), OptimizerChange::Reset),
        optimizer(Which::All, OptimizerChange::CopyFrom(layer(0))),
        optimizer(Which::All, OptimizerChange::CopyFrom(layer(9))),
        optimizer(Which::All, OptimizerChange::Scale { first: 1.0, second: -1.0 }),
        optimizer(Which::All, OptimizerChange::SetUpdates(u64::MAX)),
        Action::Schedule(ScheduleChange::Shift(2.0)),
        Action::Schedule(ScheduleChange::Rewarm(0)),
        Action::Schedule(ScheduleChange::Extend(1e7)),
        Action::Schedule(ScheduleChange::DecayNow(0.0)),
        replace(&[0], &[0]),
        replace(&[9], &[]),
        replace(&[0], &[9]),
        replace(&[], &[]),
        replace(&[1, 1], &[]),
        Action::Replace(Replace {
            layers: vec![layer(0)],
            slot: "other".into(),
            sources: vec![],
            moments: MomentsRule::Zero,
        }),
        gated(0.5),
        gated(f32::INFINITY),
        masked(8),
        masked(7),
        Action::Execute(vec![Pass::whole(layer(9))]),
        Action::Execute(vec![Pass::whole(layer(0)); 4097]),
        Action::ExecuteWholeStack,
        Action::Permute(vec![layer(1), layer(0)]),
        Action::Permute(vec![layer(1)]),
        Action::Permute(vec![layer(1), layer(1)]),
        Action::Permute(vec![layer(1), layer(2)]),
        Action::Gate(vec![Gate::both(layer(1), 0.0)]),
        Action::Gate(vec![Gate::both(layer(9), 0.0)]),
        Action::Gate(vec![Gate::both(layer(1), f32::NAN)]),
        rates(Which::Class("wqe".into()), 1.0),
        rates(Which::Layers(vec![layer(9)]), 1.0),
        rates(Which::All, -1.0),
        rates(Which::Shared, 0.5),
        batch(8, 4),
        batch(0, 6),
        batch(1, 3),
        batch(16, 3),
        batch(513, 6),
        Action::Probe(Probe { candidates: vec![vec![], vec![insert(0, 1)]], steps: 2 }),
        Action::Probe(Probe { candidates: vec![vec![insert(9, 1)]], steps: 2 }),
        Action::Probe(Probe { candidates: vec![], steps: 2 }),
        Action::Probe(Probe { candidates: vec![vec![Action::Evaluate]], steps: 2 }),
        widen(40),
        widen(16),
        widen(0),
        widen_to(api::Widths { width: 16, heads: 2, mlp_width: 32 }),
        widen_to(api::Widths { width: 8, heads: 0, mlp_width: 32 }),
        widen_to(api::Widths { width: 8, heads: 2, mlp_width: 32 }),
        Action::Schedule(ScheduleChange::Scale(0.0)),
        Action::Schedule(ScheduleChange::Follow(ScheduleShape::Linear { final_fraction: 2.0 })),
        Action::Schedule(ScheduleChange::Follow(ScheduleShape::Constant)),
        Action::Checkpoint("../up".into()),
        Action::Phase("x".repeat(129)),
        Action::Stop("x".repeat(129)),
        Action::Metric { key: "x".repeat(129), value: 0.0 },
        Action::Metric { key: "x".into(), value: f64::INFINITY },
        Action::Accept,
        Action::Reject("no".into()),
    ];
    for action in actions {
        assert_eq!(answer_of_the_bench(&action), answer(&action), "{action:?}");
    }
}

#[test]
fn what_runs_is_followed_until_blocks_come_or_go() {
    let (mut course, rules) = course();
    course.decide(&gated(0.5), &rules, Step(0), 0.0).expect("blocks that are there");
    let gates = |course: &Course| match &course.execution {
        Execution::Entries(entries) => entries.iter().map(|entry| entry.mlp_gate).collect(),
        Execution::WholeStack => vec![],
    };
    assert_eq!(gates(&course), [1.0, 0.5]);
    course.decide(&insert(0, 1), &rules, Step(1), 0.0).expect("room for a block");
    assert_eq!(course.execution, Execution::WholeStack);
    course.decide(&masked(8), &rules, Step(2), 0.0).expect("a mask of the step's length");
    course.decide(&Action::ExecuteWholeStack, &rules, Step(3), 0.0).expect("always");
    assert_eq!(course.execution, Execution::WholeStack);
    let unannounced = Rules { executes: false, ..rules };
    let refused = course.decide(&gated(1.0), &unannounced, Step(4), 0.0).expect_err("nobody knew");
    assert_eq!(refused.to_string(), "the plan did not announce that what runs is chosen");
    course.decide(&Action::ExecuteWholeStack, &unannounced, Step(4), 0.0).expect("that it does anyway");
}

#[test]
fn a_tied_head_trains_if_either_use_does() {
    let (mut course, rules) = course();
    let head_only = Train { head: true, ..Train::blocks_only(vec![]) };
    course.decide(&Action::Train(head_only), &rules, Step(0), 0.0).expect("the head trains");
    let names: Vec<String> = course.trainable.iter().map(|tensor| tensor.to_string()).collect();
    assert_eq!(names, ["wte.weight"]);
}
