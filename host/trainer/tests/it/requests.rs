//! Gates, rates, batches, orders and probes: what a strategy asks for beyond growth and freezing.

use std::sync::atomic::{AtomicBool, Ordering};

use engine::{TensorId, TensorState};
use plugin_host::api::{
    self, Action, Batch, Claim, Event, Gate, InitContext, Insert, LayerId, LayerInitializer, MomentsRule,
    Probe, Probed, RateFactor, Saved, ScheduleChange, ScheduleShape, TensorMut, Which,
};
use trainer::checkpoint;
use trainer::folder::records::Decision;
use trainer::{RunSummary, TrainError};

use crate::bench::{Bench, Filling, Told};
use crate::growth::labels;

pub(crate) fn good(bench: &Bench, strategy: Told) -> RunSummary {
    bench.run(strategy).expect("a good run")
}

pub(crate) fn newest(bench: &Bench) -> engine::Snapshot {
    let newest = &checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0];
    checkpoint::load(newest, &bench.config.model).expect("a whole checkpoint").1
}

pub(crate) fn tensor<'a>(snapshot: &'a engine::Snapshot, layer: u64, class: &str) -> &'a TensorState {
    let wanted = |(tensor, _): &&(TensorId, TensorState)| {
        tensor.layer == Some(engine::LayerId(layer)) && tensor.class.0 == class
    };
    &snapshot.tensors.iter().find(wanted).expect("it stands").1
}

/// Two blocks, and one request before step 10.
fn asking(action: Action) -> Told {
    let strategy = Told::to(move |context, actions| {
        if context.step == 10 {
            actions.push(action.clone())?;
        }
        Ok(())
    });
    Told { initial_depth: 2, ..strategy }
}

#[test]
fn a_gate_is_part_of_the_model_and_at_zero_its_branch_neither_trains_nor_costs() {
    let plain = Bench::new();
    good(&plain, asking(Action::Evaluate));
    let half = Bench::new();
    good(&half, asking(Action::Gate(vec![Gate::both(LayerId(1), 0.5)])));
    let evaluated = |bench: &Bench, step: u64| {
        let found = bench.evaluations().into_iter().find(|evaluation| evaluation.step.0 == step);
        found.expect("evaluated then").loss_nats_per_token
    };
    assert_eq!(evaluated(&half, 10), evaluated(&plain, 10), "the gate comes after step 10's evaluation");
    assert_ne!(evaluated(&half, 15), evaluated(&plain, 15), "an evaluation passes the gate");
    let closed = Bench::new();
    let summary =
        good(&closed, asking(Action::Gate(vec![Gate { layer: LayerId(1), attention: 1.0, mlp: 0.0 }])));
    let updates = |class: &str| tensor(&newest(&closed), 1, class).moments.updates;
    assert_eq!((updates("attn.c_attn.weight"), updates("mlp.c_fc.weight")), (20, 10));
    let whole = good(&Bench::new(), asking(Action::Evaluate));
    assert!(summary.costs.flops.block_forward.0 < whole.costs.flops.block_forward.0);
    assert_eq!(closed.steps().len(), 20);
}

/// A dry run, a run of compute that reads more than the token budget, and an evaluation that is asked for.
#[test]
fn a_dry_run_tells_of_the_evaluations_that_the_run_tells_of() {
    let mut bench = Bench::new();
    bench.config.budget.reference_steps = 12;
    let whole = good(&bench, asking(Action::Evaluate)).costs.flops.total();
    bench = Bench::new();
    bench.config.budget = trainer::Budget { reference_steps: 12, flops: Some(engine::Flops(whole.0 * 2)) };
    let (telling, told) = std::sync::mpsc::channel();
    let listening = || {
        let telling = telling.clone();
        let react: crate::bench::React = Box::new(move |event, _| {
            if let Event::Evaluated { step, .. } = event {
                telling.send(*step).expect("the test listens");
            }
            Ok(())
        });
        Told { react, ..asking(Action::Evaluate) }
    };
    good(&bench, listening());
    let by_the_run: Vec<u64> = told.try_iter().collect();
    assert_eq!(by_the_run, [0, 5, 10, 10, 12, 15, 20]);
    let strategy: Box<dyn api::GrowthStrategy> = Box::new(listening());
    let mut strategy = plugin_host::Loaded::built_in(api::Kind::Strategy, "test/told", strategy);
    let slots = std::collections::BTreeSet::from(["new".to_owned()]);
    trainer::rehearse(&bench.config, &mut strategy, &slots, &bench.scripted().info()).expect("a dry run");
    assert_eq!(told.try_iter().collect::<Vec<_>>(), by_the_run);
}

#[test]
fn rates_are_multiplied_tensor_by_tensor() {
    let run = |factors: Vec<RateFactor>| {
        let bench = Bench::new();
        good(&bench, asking(Action::Rates(factors)));
        newest(&bench)
    };
    let rate = |which, factor| RateFactor { which, factor };
    let plain = run(vec![]);
    let same = |other: &engine::Snapshot, layer, class| {
        tensor(other, layer, class).weights == tensor(&plain, layer, class).weights
    };
    let slower = run(vec![rate(Which::Layers(vec![LayerId(0)]), 0.5)]);
    assert!(!same(&slower, 0, "mlp.c_fc.weight") && same(&slower, 1, "mlp.c_fc.weight"));
    let last_counts = run(vec![rate(Which::All, 0.5), rate(Which::All, 1.0)]);
    assert!(same(&last_counts, 0, "mlp.c_fc.weight") && same(&last_counts, 1, "ln_1.bias"));
    let still = run(vec![rate(Which::Class("mlp.c_fc.weight".into()), 0.0)]);
    let at_ten = {
        let bench = Bench::new();
        good(&bench, asking(Action::Stop("to look at it".into())));
        newest(&bench)
    };
    let weights = |snapshot: &engine::Snapshot| tensor(snapshot, 1, "mlp.c_fc.weight").weights.clone();
    assert_eq!(weights(&still), weights(&at_ten), "a rate of zero moves nothing");
    assert_eq!(tensor(&still, 1, "mlp.c_fc.weight").moments.updates, 20, "but its moments go on");
}

#[test]
fn another_batch_reads_the_same_tokens_in_the_same_order() {
    let plain = Bench::new();
    let whole = good(&plain, asking(Action::Evaluate));
    let context = plain.config.model.context;
    let half = Bench::new();
    let summary = good(&half, asking(Action::Batch(Batch { sequences: 4, length: context / 2 })));
    assert_eq!((summary.steps.0, summary.costs.tokens), (20, whole.costs.tokens));
    assert!(summary.costs.flops.attention_forward.0 < whole.costs.flops.attention_forward.0, "shorter rows");
    assert_eq!(
        plain.evaluations().last().map(|evaluation| evaluation.batches_sha256.clone()),
        half.evaluations().last().map(|evaluation| evaluation.batches_sha256.clone()),
    );
    let double = Bench::new();
    let summary = good(&double, asking(Action::Batch(Batch { sequences: 4, length: context })));
    assert_eq!(
        (summary.steps.0, summary.costs.tokens),
        (15, whole.costs.tokens),
        "ten steps, then five twice as large"
    );
    let refused = |sequences, length| {
        let bench = Bench::new();
        let strategy = Told::to(move |context, actions| {
            if context.step == 2 {
                let _ = actions.batch(Batch { sequences, length });
            }
            Ok(())
        });
        good(&bench, strategy);
        let reason = |decision: Decision| match decision {
            Decision::Refused { reason, .. } => Some(reason),
            _ => None,
        };
        bench.decisions().into_iter().find_map(reason).expect("refused")
    };
    assert_eq!(refused(2, 4), "sequences of 4 tokens do not divide rows of 6");
    assert_eq!(refused(1, 3), "1 sequences of 3 tokens are no whole number of rows of 6");
    assert_eq!(refused(129, 6), "a step of 774 tokens; the host takes 768");
    assert_eq!(refused(0, 6), "a step of 0 sequences of 6 tokens");
}

#[test]
fn blocks_stand_in_another_order_with_all_that_is_theirs() {
    let bench = Bench::new();
    good(&bench, asking(Action::Permute(vec![LayerId(1), LayerId(0)])));
    let found = bench.decisions().into_iter().find_map(|decision| match decision {
        Decision::Edited(receipt) => Some(receipt),
        _ => None,
    });
    let receipt = found.expect("it is audited");
    assert!(receipt.others_bit_identical && receipt.loss_before != receipt.loss_after);
    assert_eq!((receipt.claim, receipt.new_layers.len()), (None, 0));
    assert_eq!(newest(&bench).layers, [1, 0].map(engine::LayerId));
    assert_eq!(tensor(&newest(&bench), 1, "ln_1.bias").moments.updates, 20);
}

#[test]
fn a_schedule_is_followed_in_another_shape_and_scale() {
    let rates = |changes: Vec<ScheduleChange>| {
        let bench = Bench::new();
        let strategy = Told::to(move |context, actions| {
            if context.step == 10 {
                changes.iter().try_for_each(|change| actions.schedule(change.clone()))?;
            }
            Ok(())
        });
        good(&bench, strategy);
        bench.steps().iter().map(|step| step.learning_rate).collect::<Vec<f64>>()
    };
    let plain = rates(vec![]);
    let constant = rates(vec![ScheduleChange::Follow(ScheduleShape::Constant)]);
    assert_eq!((&constant[..10], &constant[10..]), (&plain[..10], [1e-2; 10].as_slice()));
    let halved = rates(vec![ScheduleChange::Scale(0.5)]);
    assert_eq!(halved[10..], plain[10..].iter().map(|rate| 0.5 * rate).collect::<Vec<f64>>());
    let cosine = rates(vec![
        ScheduleChange::Scale(0.5),
        ScheduleChange::Follow(ScheduleShape::Cosine { final_fraction: 0.0 }),
        ScheduleChange::Rewarm(2),
    ]);
    assert!((cosine[10] - 0.25e-2).abs() < 1e-12, "half of the half: {}", cosine[10]);
    let half_way = 0.5 * (1.0 + (std::f64::consts::PI * 0.5).cos());
    assert!((cosine[15] - 0.5e-2 * half_way).abs() < 1e-12, "{}", cosine[15]);
}

/// Inserts a block on top of block 0, for the slot that the bench fills in.
fn insertion() -> Action {
    Action::Insert(Insert {
        above: api::Above::Layer(LayerId(0)),
        count: 1,
        slot: "new".into(),
        sources: vec![],
        moments: MomentsRule::Zero,
    })
}

/// Before step 6 tries three ways to go on for four steps, and takes the second where `takes` says so.
fn probing(takes: bool) -> Told {
    let candidates =
        vec![vec![], vec![insertion()], vec![Action::Schedule(ScheduleChange::Scale(0.1)), insertion()]];
    let strategy = Told::to(move |context, actions| {
        if context.step == 6 {
            actions.probe(Probe { candidates: candidates.clone(), steps: 4 })?;
        }
        Ok(())
    });
    Told {
        react: Box::new(move |event, actions| {
            let Event::Probed(probed) = event else { return Ok(()) };
            let means = probed.mean_of_last(2);
            assert_eq!((probed.step, means.len(), probed.losses[0].len()), (6, 3, 4));
            assert!(
                means.iter().all(|mean| mean.is_finite()) && means[0] != means[1] && means[1] != means[2]
            );
            if takes {
                actions.push(insertion())?;
            }
            Ok(())
        }),
        ..strategy
    }
}

#[test]
fn a_probe_leaves_no_trace_but_its_costs() {
    let plain = Bench::new();
    let without = good(&plain, Told::to(|_, _| Ok(())));
    let bench = Bench::new();
    let with = good(&bench, probing(false));
    let same = |bench: &Bench| {
        let steps =
            bench.steps().into_iter().map(|step| (step.step, step.loss_nats_per_token, step.learning_rate));
        (steps.collect::<Vec<_>>(), newest(bench))
    };
    assert_eq!(same(&bench), same(&plain));
    let probes = with.costs.probes;
    assert_eq!((with.costs.tokens, probes.tokens.0), (without.costs.tokens, 3 * 4 * 12));
    assert_eq!(with.costs.flops.total(), without.costs.flops.total() + probes.flops);
    assert!(labels(&bench.decisions()).contains(&"6: 3 candidates tried".to_owned()));
}

#[test]
fn what_a_probe_shows_is_acted_on_before_the_same_step() {
    let bench = Bench::new();
    good(&bench, probing(true));
    let depths: Vec<usize> = bench.steps().iter().map(|step| step.depth).collect();
    assert_eq!(depths, [[1; 6].as_slice(), &[2; 14]].concat());
    assert!(labels(&bench.decisions()).contains(&"6: 1 -> 2 blocks".to_owned()));
}

/// Writes into each new block how many it has made before.
struct Counting(u64);

impl LayerInitializer for Counting {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> api::Result<Claim> {
        let made_before = self.0 as f32;
        self.0 += 1;
        Filling(|first| first, Claim::None).init(context, target)?;
        target.iter_mut().for_each(|tensor| tensor.values[0] += made_before);
        Ok(Claim::None)
    }

    fn moments(&self) -> MomentsRule {
        MomentsRule::Zero
    }

    fn save(&self) -> api::Result<Saved> {
        Saved::new(0, &self.0)
    }

    fn restore(&mut self, saved: &Saved) -> api::Result<()> {
        self.0 = saved.read(0)?;
        Ok(())
    }
}

#[test]
fn an_initializer_does_not_remember_what_it_made_for_a_probe() {
    let by_counting = |strategy| {
        let bench = Bench::new();
        let engine = bench.scripted();
        bench.run_by(strategy, Box::new(Counting(0)), engine, &AtomicBool::new(false)).expect("a good run");
        newest(&bench)
    };
    let unprobed = Told::to(|context, actions| match context.step {
        6 => actions.push(insertion()).map(drop),
        _ => Ok(()),
    });
    assert_eq!(by_counting(probing(true)), by_counting(unprobed));
}

#[test]
fn a_probe_that_is_interrupted_is_made_anew_and_paid_once() {
    let whole = Bench::new();
    let wanted = good(&whole, probing(true));
    let bench = Bench::new();
    // By the initializer of the second candidate: the first has been trained, and is to be paid again.
    static INTERRUPT: AtomicBool = AtomicBool::new(false);
    let interrupting = |first| {
        INTERRUPT.store(true, Ordering::Relaxed);
        first
    };
    let filling = Filling(interrupting, Claim::None);
    let cut = bench.run_with(probing(true), filling, bench.scripted(), &INTERRUPT);
    assert!(matches!(cut, Err(TrainError::Interrupted { step }) if step.0 == 6), "{cut:?}");
    let summary = good(&bench, probing(true));
    assert_eq!((summary.costs.flops, summary.costs.probes), (wanted.costs.flops, wanted.costs.probes));
    assert_eq!((bench.steps(), newest(&bench)), (whole.steps(), newest(&whole)));
    let log = |bench: &Bench| std::fs::read_to_string(bench.folder().decisions_file()).expect("a log");
    assert_eq!(log(&bench), log(&whole));
}

#[test]
fn a_candidate_that_diverges_is_told_as_such() {
    let losses = vec![vec![2.0, 1.0], vec![0.5], vec![3.0, 2.5]];
    let means = |losses| Probed { step: 0, steps: 2, losses }.mean_of_last(1);
    assert_eq!(means(losses), [1.0, f64::INFINITY, 2.5]);
    let nobody_got_through = vec![vec![0.5], vec![]];
    assert_eq!(means(nobody_got_through), [f64::INFINITY, f64::INFINITY]);
}

#[test]
fn a_probe_stands_alone_and_within_its_budget() {
    let refusals = |flops: Option<u128>, decide: fn(&mut api::Actions<'_>) -> api::Result<()>| {
        let mut bench = Bench::new();
        bench.config.budget.flops = flops.map(engine::Flops);
        let strategy = Told::to(move |context, actions| {
            if context.step == 1 {
                let _ = decide(actions);
            }
            Ok(())
        });
        good(&bench, strategy);
        let refused = labels(&bench.decisions()).into_iter().filter(|label| label.contains("refused"));
        refused.collect::<Vec<_>>()
    };
    fn after_another(actions: &mut api::Actions<'_>) -> api::Result<()> {
        actions.phase("a phase")?;
        actions.probe(Probe { candidates: vec![vec![]], steps: 1 })
    }
    assert_eq!(refusals(None, after_another), ["1: refused, a probe has to be the only request of its step"]);
    fn before_another(actions: &mut api::Actions<'_>) -> api::Result<()> {
        actions.probe(Probe { candidates: vec![vec![]], steps: 1 })?;
        actions.phase("a phase")
    }
    let reason = "1: refused, a probe was asked for; everything else has to wait for what comes of it";
    assert_eq!(refusals(None, before_another), [reason]);
    fn nested(actions: &mut api::Actions<'_>) -> api::Result<()> {
        let inner = Action::Probe(Probe { candidates: vec![vec![]], steps: 1 });
        actions.probe(Probe { candidates: vec![vec![inner]], steps: 1 })
    }
    assert!(refusals(None, nested)[0].ends_with("cannot be part of a candidate"));
    fn long(actions: &mut api::Actions<'_>) -> api::Result<()> {
        actions.probe(Probe { candidates: vec![vec![]], steps: 100_000 })
    }
    let of_run = good(&Bench::new(), Told::to(|_, _| Ok(()))).costs.flops.total().0;
    assert!(refusals(Some(of_run), long)[0].starts_with("1: refused, the probe costs "));
}
