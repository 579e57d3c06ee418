//! Models that become wider: which tensors are made anew, what becomes of AdamW's states, going on, and taking back.

use std::sync::atomic::{AtomicBool, Ordering};

use engine::{TensorId, Widths};
use plugin_host::api::{self, Claim, Event, InitContext, LayerInitializer, TensorMut, Widen, WidenedMoments};
use trainer::folder::records::Decision;
use trainer::{TrainError, checkpoint};

use crate::bench::{Bench, Told};
use crate::requests::{good, newest, tensor};

/// The bench's model.
const WHOLE: api::Widths = api::Widths { width: 8, heads: 2, mlp_width: 32 };
/// The same with fewer neurons, and narrower in every way.
const FEWER_NEURONS: api::Widths = api::Widths { mlp_width: 20, ..WHOLE };
const NARROW: api::Widths = api::Widths { width: 5, heads: 1, mlp_width: 20 };

/// Repeats rows and columns of the source in order.
struct Repeating;

impl LayerInitializer for Repeating {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> api::Result<Claim> {
        for (new, old) in target.iter_mut().zip(context.source_tensors()?) {
            assert_eq!((new.class, new.role), (old.class, old.role));
            let columns = |shape: &[u64]| *shape.last().expect("a dimension") as usize;
            let (to, from) = (columns(new.shape), columns(old.shape));
            let rows = old.values.len() / from;
            for (index, value) in new.values.iter_mut().enumerate() {
                *value = old.values[(index / to % rows) * from + index % to % from];
            }
        }
        Ok(Claim::None)
    }

    api::stateless!();
}

/// Two blocks, that wide at first, and all of the model's width before step 10.
fn widening(from: api::Widths, moments: WidenedMoments) -> Told {
    let strategy = Told::to(move |context, actions| {
        if context.step == 10 {
            actions.widen(Widen { widths: WHOLE, slot: "new".into(), moments })?;
            actions.checkpoint("wider")?;
        }
        Ok(())
    });
    Told { initial_depth: 2, widths: Some(from), ..strategy }
}

fn widened(from: api::Widths, moments: WidenedMoments) -> Bench {
    let bench = Bench::new();
    let initializer: Box<dyn LayerInitializer> = Box::new(Repeating);
    bench
        .run_by(widening(from, moments), initializer, bench.scripted(), &AtomicBool::new(false))
        .expect("a good run");
    bench
}

fn right_after(bench: &Bench) -> engine::Snapshot {
    let folder = bench.folder().checkpoints().join("00000010-wider");
    checkpoint::load(&folder, &bench.config.model).expect("a whole checkpoint").1
}

/// How a run stands before step 10 that never becomes wider.
fn right_before(from: api::Widths) -> engine::Snapshot {
    let strategy = Told::to(|context, actions| match context.step {
        10 => actions.checkpoint("wider"),
        _ => Ok(()),
    });
    let bench = Bench::new();
    good(&bench, Told { initial_depth: 2, widths: Some(from), ..strategy });
    right_after(&bench)
}

fn receipt(bench: &Bench) -> api::GrowthReceipt {
    let found = bench.decisions().into_iter().find_map(|decision| match decision {
        Decision::Edited(receipt) => Some(receipt),
        _ => None,
    });
    found.expect("it is audited")
}

#[test]
fn hidden_layers_become_wider_and_only_what_is_resized_is_made_anew() {
    let bench = widened(FEWER_NEURONS, WidenedMoments::Keep);
    let receipt = receipt(&bench);
    assert_eq!((receipt.widths, receipt.new_layers.len()), (Some([FEWER_NEURONS, WHOLE]), 0));
    assert!(receipt.others_bit_identical && receipt.depth_before == receipt.depth_after);
    let wide = newest(&bench);
    assert_eq!((wide.widths.mlp_width, tensor(&wide, 0, "mlp.c_fc.bias").weights.len()), (32, 32));
    // Kept moments count on, with zeros for the neurons that came; with others the resized tensors begin anew.
    let updates = |bench: &Bench, class: &str| tensor(&newest(bench), 1, class).moments.updates;
    assert_eq!((updates(&bench, "mlp.c_fc.weight"), updates(&bench, "mlp.c_proj.bias")), (20, 20));
    let anew = widened(FEWER_NEURONS, WidenedMoments::Zero);
    assert_eq!((updates(&anew, "mlp.c_fc.weight"), updates(&anew, "mlp.c_proj.bias")), (10, 20));
    let after = right_after(&bench);
    let moments = &tensor(&after, 0, "mlp.c_fc.weight").moments.first;
    assert!(moments.chunks(32).all(|row| row[..20].iter().all(|&m| m != 0.0) && row[20..] == [0.0; 12]));
    let rows = &tensor(&after, 0, "mlp.c_proj.weight").moments.first;
    assert!(rows[..20 * 8].iter().all(|&m| m != 0.0) && rows[20 * 8..] == [0.0; 12 * 8]);
    // A step costs less before than after.
    let flops: Vec<u128> = bench.steps().iter().map(|step| step.flops.0).collect();
    assert!(flops[9] - flops[8] < flops[19] - flops[18]);
}

/// Every tensor of a model that becomes wider in every way: the first rows and columns are what was there, and what comes
/// repeats them, of queries, keys and values each; moments follow the rule.
#[test]
fn a_model_becomes_wider_in_every_way_embeddings_and_final_norm_included() {
    for rule in [WidenedMoments::Zero, WidenedMoments::Keep, WidenedMoments::Repeat] {
        let bench = widened(NARROW, rule);
        assert_eq!(receipt(&bench).widths, Some([NARROW, WHOLE]));
        let (before, after) = (right_before(NARROW), right_after(&bench));
        let whole = Widths { width: 8, heads: 2, mlp_width: 32 };
        assert_eq!((after.widths, after.tensors.len()), (whole, before.tensors.len()));
        let shape = |snapshot: &engine::Snapshot| bench.config.model.with_widths(snapshot.widths);
        let (old_specs, specs) =
            (shape(&before).tensors(&before.layers), shape(&after).tensors(&after.layers));
        let states = before.tensors.iter().zip(&after.tensors).zip(old_specs.iter().zip(&specs));
        for (((id, old), (_, new)), ((_, from), (_, to))) in states {
            let source = |index: usize| {
                let [(rows, columns), (_, width)] = [from, to].map(|spec| {
                    let columns = *spec.shape.last().expect("a dimension");
                    (spec.len() / columns, columns)
                });
                let parts = from.parts();
                let (row, part, column) =
                    (index / width, index % width / (width / parts), index % width % (width / parts));
                let was_there = row < rows && column < columns / parts;
                ((row % rows) * columns + part * (columns / parts) + column % (columns / parts), was_there)
            };
            for (index, moment) in new.moments.first.iter().enumerate() {
                let (from, was_there) = source(index);
                let wanted = match rule {
                    WidenedMoments::Zero => 0.0,
                    WidenedMoments::Keep if !was_there => 0.0,
                    _ => old.moments.first[from],
                };
                assert_eq!(*moment, wanted, "{id} {rule:?} at {index}");
            }
            let counted = if rule == WidenedMoments::Zero { 0 } else { 10 };
            assert_eq!((new.moments.updates, old.moments.updates), (counted, 10), "{id} {rule:?}");
        }
        let table = TensorId::shared(engine::TensorClass("wte.weight"));
        let find = |snapshot: &engine::Snapshot| {
            snapshot.tensors.iter().find(|(id, _)| *id == table).expect("it is there").1.weights.clone()
        };
        let (old, new) = (find(&before), find(&after));
        assert!(old.chunks(5).zip(new.chunks(8)).all(|(old, new)| old == &new[..5] && old[..3] == new[5..]));
    }
}

#[test]
fn a_wider_run_goes_on_from_before_and_after_as_if_nothing_had_happened() {
    for from in [FEWER_NEURONS, NARROW] {
        let whole = widened(from, WidenedMoments::Keep);
        for step in [9, 10, 11, 17] {
            let bench = Bench::new();
            let interrupt: &'static AtomicBool = Box::leak(Box::new(AtomicBool::new(false)));
            let decide = widening(from, WidenedMoments::Keep).decide;
            let stopping = Told {
                decide: Box::new(move |context, actions| {
                    if context.step == step {
                        interrupt.store(true, Ordering::Relaxed);
                    }
                    decide(context, actions)
                }),
                ..widening(from, WidenedMoments::Zero)
            };
            let cut = bench.run_by(stopping, Box::new(Repeating), bench.scripted(), interrupt);
            assert!(matches!(cut, Err(TrainError::Interrupted { .. })), "{cut:?}");
            let again = widening(from, WidenedMoments::Keep);
            bench
                .run_by(again, Box::new(Repeating), bench.scripted(), &AtomicBool::new(false))
                .expect("the rest");
            let (ours, uncut) = ((bench.steps(), newest(&bench)), (whole.steps(), newest(&whole)));
            assert_eq!(ours, uncut, "interrupted before {step}");
        }
    }
}

#[test]
fn a_wider_model_that_is_taken_back_leaves_no_trace() {
    for from in [FEWER_NEURONS, NARROW] {
        let plain = Bench::new();
        let narrow = Told { initial_depth: 2, widths: Some(from), ..Told::to(|_, _| Ok(())) };
        good(&plain, narrow);
        let bench = Bench::new();
        let rejecting = Told {
            react: Box::new(|event, actions| match event {
                Event::Edited(_) => actions.reject("no"),
                _ => Ok(()),
            }),
            ..widening(from, WidenedMoments::Zero)
        };
        bench
            .run_by(rejecting, Box::new(Repeating), bench.scripted(), &AtomicBool::new(false))
            .expect("a good run");
        assert_eq!((bench.steps(), newest(&bench)), (plain.steps(), newest(&plain)));
    }
}
