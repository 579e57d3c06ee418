//! Growth, freezing, rejection, and what the decision log says of them.

use std::collections::BTreeSet;

use engine::{TensorId, TensorState};
use plugin_host::Loaded;
use plugin_host::api::{
    Action, Claim, Event, GrowthStrategy, Kind, LayerId, MomentsRule, OptimizerChange, OptimizerRule, Pass,
    Replace, ScheduleChange, Train, Which,
};
use trainer::WantedBlock;
use trainer::checkpoint;
use trainer::folder::records::Decision;

use crate::bench::{Bench, Filling, React, Told, grow};

pub(crate) fn labels(decisions: &[Decision]) -> Vec<String> {
    let label = |decision: &Decision| match decision {
        Decision::Planned { .. } => "planned".into(),
        Decision::Requested { step, requests, .. } => {
            let deeds = requests.iter().filter(|request| !matches!(request, Action::Metric { .. })).count();
            format!("{step}: {deeds} requests")
        }
        Decision::Refused { step, reason, .. } => format!("{step}: refused, {reason}"),
        Decision::Edited(receipt) => {
            format!("{}: {} -> {} blocks", receipt.step, receipt.depth_before, receipt.depth_after)
        }
        Decision::Rejected { step, reason } => format!("{step}: rejected, {reason}"),
        Decision::PhaseStarted { step, label, trainable, .. } => {
            format!("{step}: phase `{label}`, {} tensors train", trainable.len())
        }
        Decision::PhaseEnded(audit) => format!(
            "{}: phase `{}` over, {} moved, {} frozen, intact {}",
            audit.end_step, audit.label, audit.moved, audit.frozen, audit.frozen_bit_identical
        ),
        Decision::Probed { step, losses, .. } => format!("{step}: {} candidates tried", losses.len()),
        Decision::Stopped { step, reason } => format!("{step}: stopped, {reason}"),
    };
    // Every boundary of the told strategy carries its metric; those with nothing else are no news.
    decisions.iter().map(label).filter(|label| !label.ends_with(": 0 requests")).collect()
}

#[test]
fn a_grown_run_says_what_grew_what_froze_and_what_moved() {
    let bench = Bench::new();
    let summary = bench
        .run(Told::to(|context, actions| {
            if context.step == 6 {
                let new = grow(context, actions)?;
                actions.phase("new block alone")?;
                actions.train(Train::blocks_only(new))?;
            }
            if context.step == 12 {
                actions.phase("all")?;
                actions.train(Train::with_shared(context.blocks.iter().map(|block| block.id).collect()))?;
                actions.optimizer(OptimizerRule { which: Which::All, change: OptimizerChange::Reset })?;
                actions.schedule(ScheduleChange::Rewarm(2))?;
            }
            Ok(())
        }))
        .expect("a good run");
    assert_eq!((summary.steps.0, summary.costs.tokens.0), (20, 240));
    let wanted = [
        "planned",
        "0: phase ``, 16 tensors train",
        "6: 3 requests",
        "6: phase `` over, 16 moved, 0 frozen, intact true",
        "6: 1 -> 2 blocks",
        "6: phase `new block alone`, 12 tensors train",
        "12: 4 requests",
        "12: phase `new block alone` over, 12 moved, 16 frozen, intact true",
        "12: phase `all`, 28 tensors train",
        "20: phase `all` over, 28 moved, 0 frozen, intact true",
    ];
    assert_eq!(labels(&bench.decisions()), wanted);
    let depths: Vec<usize> = bench.steps().iter().map(|step| step.depth).collect();
    assert_eq!(depths, [[1; 6].as_slice(), &[2; 14]].concat());
    let evaluated: Vec<u64> = bench.evaluations().iter().map(|evaluation| evaluation.step.0).collect();
    assert_eq!(evaluated, [0, 5, 10, 15, 20]);
    assert!(bench.steps()[12].learning_rate < bench.steps()[11].learning_rate, "the rate warms up again");
}

#[test]
fn a_block_that_is_made_anew_has_a_receipt_and_the_moments_that_were_asked_for() {
    let grown_then = |moments: MomentsRule, step: u64| {
        let bench = Bench::new();
        let strategy = Told::to(move |context, actions| {
            if context.step == 6 {
                grow(context, actions)?;
            }
            if context.step == step {
                let (old, new) = (context.blocks[0].id, context.blocks[1].id);
                let (layers, sources) = (vec![old], vec![new]);
                actions.replace(Replace { layers, slot: "new".into(), sources, moments })?;
            }
            Ok(())
        });
        bench.run(strategy).expect("a good run");
        bench
    };
    let bench = grown_then(MomentsRule::Zero, 12);
    let wanted = [
        "planned",
        "0: phase ``, 16 tensors train",
        "6: 1 requests",
        "6: phase `` over, 16 moved, 0 frozen, intact true",
        "6: 1 -> 2 blocks",
        "6: phase ``, 28 tensors train",
        "12: 1 requests",
        "12: 2 -> 2 blocks",
        "20: phase `` over, 28 moved, 0 frozen, intact true",
    ];
    assert_eq!(labels(&bench.decisions()), wanted);
    let mut receipts = bench.decisions().into_iter().filter_map(|decision| match decision {
        Decision::Edited(receipt) => Some(receipt),
        _ => None,
    });
    let receipt = receipts.next_back().expect("two edits");
    assert_eq!((receipt.replaced_layers, receipt.new_layers.len()), (vec![LayerId(0)], 0));
    assert!(receipt.others_bit_identical && receipt.loss_before != receipt.loss_after);
    // What block 0 has been updated by then: anew from step 12, or with the counter of the block born before step 6.
    let updates = |bench: &Bench| {
        let newest = &checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0];
        let (_, snapshot) = checkpoint::load(newest, &bench.config.model).expect("a whole checkpoint");
        let of_block = |(tensor, _): &&(TensorId, TensorState)| tensor.layer == Some(engine::LayerId(0));
        snapshot.tensors.iter().find(of_block).expect("it stands").1.moments.updates
    };
    assert_eq!(updates(&bench), 8);
    assert_eq!(updates(&grown_then(MomentsRule::CopyFromSource, 12)), 14);
}

#[test]
fn what_does_not_run_neither_trains_nor_costs() {
    let run = |execute: Option<u64>| {
        let bench = Bench::new();
        let strategy = Told::to(move |context, actions| {
            if execute == Some(context.step) {
                actions.execute(vec![Pass::whole(context.blocks[1].id)])?;
            }
            Ok(())
        });
        let summary = bench.run(Told { initial_depth: 2, ..strategy }).expect("a good run");
        let newest = &checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0];
        let (_, snapshot) = checkpoint::load(newest, &bench.config.model).expect("a whole checkpoint");
        let updates = |layer: u64| {
            let of_block =
                |(tensor, _): &&(TensorId, TensorState)| tensor.layer == Some(engine::LayerId(layer));
            snapshot.tensors.iter().find(of_block).expect("it stands").1.moments.updates
        };
        (updates(0), updates(1), summary.costs)
    };
    let (_, _, whole) = run(None);
    let (left_out, runs, half) = run(Some(10));
    assert_eq!((left_out, runs), (10, 20));
    // Ten steps of two blocks and ten of one: three quarters of the blocks' part in every ledger.
    assert_eq!(4 * half.flops.block_forward.0, 3 * whole.flops.block_forward.0);
    assert_eq!(4 * half.flops.block_weight_gradient.0, 3 * whole.flops.block_weight_gradient.0);
    assert_eq!(4 * half.flops_li2024.0, 3 * whole.flops_li2024.0);
    assert_eq!(half.flops.head_forward, whole.flops.head_forward);
}

fn that_takes_its_growth_back() -> Told {
    Told {
        react: Box::new(|event, actions| match event {
            Event::Edited(_) => actions.reject("the probe says no"),
            _ => Ok(()),
        }),
        ..Told::to(|context, actions| {
            if context.step == 6 {
                let new = grow(context, actions)?;
                actions.train(Train::blocks_only(new))?;
            }
            Ok(())
        })
    }
}

#[test]
fn an_edit_that_is_rejected_leaves_no_trace() {
    let plain = Bench::new();
    plain.run(Told::to(|_, _| Ok(()))).expect("a good run");
    let bench = Bench::new();
    bench.run(that_takes_its_growth_back()).expect("a good run");
    assert!(labels(&bench.decisions()).contains(&"6: rejected, the probe says no".to_owned()));
    assert_eq!(bench.steps(), plain.steps(), "the same run as one that never asked");
}

#[test]
fn a_rehearsal_tells_what_an_edit_asks_of_an_initializer_even_if_it_is_rejected() {
    let bench = Bench::new();
    let strategy = Box::new(that_takes_its_growth_back());
    let mut strategy: Loaded<dyn GrowthStrategy> = Loaded::built_in(Kind::Strategy, "test/told", strategy);
    let (slots, engine) = (BTreeSet::from(["new".to_owned()]), bench.scripted().info());
    let rehearsal = trainer::rehearse(&bench.config, &mut strategy, &slots, &engine).expect("a good run");
    let wanted = WantedBlock { slot: "new".into(), has_source: false, is_first: false, widening: None };
    assert_eq!(rehearsal.wanted, BTreeSet::from([wanted]));
    assert_eq!(rehearsal.phases.iter().map(|phase| phase.depth).collect::<Vec<_>>(), [1], "it never grew");
}

#[test]
fn a_refused_request_is_answered_logged_and_changes_nothing() {
    let bench = Bench::new();
    bench
        .run(Told::to(|context, actions| {
            if context.step == 2 {
                let answer = actions.remove(&[plugin_host::api::LayerId(99)]);
                assert_eq!(answer.expect_err("refused").message(), "there is no block 99");
            }
            Ok(())
        }))
        .expect("a strategy may live with a refusal");
    assert!(labels(&bench.decisions()).contains(&"2: refused, there is no block 99".to_owned()));
}

#[test]
fn losses_are_shown_to_the_step_before_the_last_one_and_no_further() {
    let bench = Bench::new();
    bench
        .run(Told::to(|context, _| {
            let last = context.losses.last().map(|loss| loss.step);
            assert_eq!(last, context.step.checked_sub(2), "before step {}", context.step);
            Ok(())
        }))
        .expect("a good run");
}

#[test]
fn a_strategy_can_stop_the_run_and_name_a_checkpoint() {
    let bench = Bench::new();
    let summary = bench
        .run(Told::to(|context, actions| {
            if context.step == 7 {
                actions.checkpoint("here")?;
                actions.stop("enough")?;
            }
            Ok(())
        }))
        .expect("a good run");
    assert_eq!((summary.steps.0, summary.stopped.as_deref()), (7, Some("enough")));
    assert!(bench.files().contains("checkpoints/00000007-here/state.json"));
}

#[test]
fn a_false_claim_of_an_exact_initializer_is_found_out() {
    let bench = Bench::new();
    let strategy = Told::to(|context, actions| {
        if context.step == 6 {
            grow(context, actions)?;
        }
        Ok(())
    });
    let liar = Filling(|first| first + 1.0, Claim::Exact);
    let interrupt = std::sync::atomic::AtomicBool::new(false);
    let error = bench.run_with(strategy, liar, bench.scripted(), &interrupt).expect_err("a lie");
    let text = error.to_string();
    assert!(
        text.starts_with("the initializer `test/filling` failed in `init`: it claims to leave"),
        "{text}"
    );
}

#[test]
fn an_exact_initializer_is_not_held_to_it_where_a_block_is_made_anew() {
    let bench = Bench::new();
    let strategy = Told::to(|context, actions| {
        if context.step == 6 {
            let (layers, sources) = (vec![context.blocks[0].id], vec![]);
            let moments = MomentsRule::Zero;
            actions.replace(Replace { layers, slot: "new".into(), sources, moments })?;
        }
        Ok(())
    });
    let exact = Filling(|first| first + 1.0, Claim::Exact);
    let interrupt = std::sync::atomic::AtomicBool::new(false);
    bench.run_with(strategy, exact, bench.scripted(), &interrupt).expect("it claims it of new blocks alone");
    let claims = bench.decisions().into_iter().filter_map(|decision| match decision {
        Decision::Edited(receipt) => Some((receipt.claim, receipt.loss_before != receipt.loss_after)),
        _ => None,
    });
    assert_eq!(claims.collect::<Vec<_>>(), [(Some(Claim::None), true)]);
}

/// Makes the only block anew before step 6, with that in its first elements; answers whether it is kept.
fn made_anew(first: fn(f32) -> f32, is_kept: bool) -> Bench {
    let bench = Bench::new();
    let strategy = Told::to(|context, actions| {
        if context.step == 6 {
            let (layers, sources) = (vec![context.blocks[0].id], vec![]);
            actions.replace(Replace { layers, slot: "new".into(), sources, moments: MomentsRule::Zero })?;
        }
        Ok(())
    });
    let react: React = Box::new(move |event, actions| match event {
        Event::Edited(_) if !is_kept => actions.reject("no"),
        _ => Ok(()),
    });
    let interrupt = std::sync::atomic::AtomicBool::new(false);
    let strategy = Told { react, ..strategy };
    bench.run_with(strategy, Filling(first, Claim::None), bench.scripted(), &interrupt).expect("a good run");
    bench
}

#[test]
fn blocks_made_anew_that_are_rejected_leave_the_phase_as_it_was() {
    let bench = made_anew(|first| first + 1.0, false);
    let labels = labels(&bench.decisions());
    assert!(labels.contains(&"6: rejected, no".to_owned()), "{labels:?}");
    let decisions = bench.decisions();
    let count = |is: fn(&Decision) -> bool| decisions.iter().filter(|decision| is(decision)).count();
    let started = count(|decision| matches!(decision, Decision::PhaseStarted { .. }));
    let ended = count(|decision| matches!(decision, Decision::PhaseEnded(_)));
    assert_eq!((started, ended), (1, 1), "{labels:?}");
}

/// No run may begin as a copy of one whose blocks were made anew in another way.
#[test]
fn blocks_made_anew_are_part_of_the_trail() {
    let trail = |bench: &Bench| {
        let newest = &trainer::checkpoint::list(&bench.folder().checkpoints()).expect("a folder")[0];
        let state: serde_json::Value =
            trainer::storage::read_json(&newest.join("state.json")).expect("a good state");
        state["trail"].as_str().expect("a hash").to_owned()
    };
    let [one, other, again] = [|first| first + 1.0, |first| first + 2.0, |first: f32| first + 1.0]
        .map(|first: fn(f32) -> f32| trail(&made_anew(first, true)));
    assert!(one != other && one == again, "{one} {other} {again}");
}

#[test]
fn a_run_matched_by_compute_never_exceeds_its_budget() {
    let mut bench = Bench::new();
    let whole = bench.run(Told { initial_depth: 3, ..Told::to(|_, _| Ok(())) }).expect("a good run");
    let budget = whole.costs.flops.total();
    bench = Bench::new();
    bench.config.budget.flops = Some(budget);
    let shallow = bench.run(Told::to(|_, _| Ok(()))).expect("a good run");
    assert!(shallow.costs.flops.total() <= budget && shallow.steps.0 > 20);
    let share = shallow.costs.flops.total().as_f64() / budget.as_f64();
    assert!(share > 0.97, "no further step fits: {share}");
    let at_tokens: Vec<u64> = bench.evaluations().iter().map(|evaluation| evaluation.step.0).collect();
    assert!(at_tokens.contains(&20), "judged at the token budget too: {at_tokens:?}");
}
