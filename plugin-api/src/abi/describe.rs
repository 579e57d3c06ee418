//! Everything that crosses, as text: names, types, offsets, sizes, numbers, and the keys of what crosses as JSON. A
//! test compares it with what was frozen.

use std::fmt::Write;
use std::mem::{align_of, offset_of, size_of};

use serde::Serialize;

use super::boundary::RawFault;
use super::root::{ABI_EPOCH, FACTS_FORMAT, FACTS_SECTION, RawInterface, Root};
use super::strategy::{schedule, tell};
use super::{initializer, reporter, strategy};
use crate::testing::MadeUpRun;
use crate::{
    Block, Budget, Claim, Evaluation, Event, GrowthReceipt, Kind, LayerId, LossPoint, ModelFacts, Plan,
    PlannedPhase, Role, RunEvent, RunFacts,
};

/// All of it, in a fixed order.
pub fn everything() -> String {
    let mut text = String::new();
    let mut line = |words: String| {
        let _ = writeln!(text, "{words}");
    };
    line(format!("epoch {ABI_EPOCH}, facts format {FACTS_FORMAT} in section {FACTS_SECTION}"));
    line(format!(
        "root, {} bytes: abi_epoch {}, interface {}, schema {}, attach_host {}",
        size_of::<Root>(),
        offset_of!(Root, abi_epoch),
        offset_of!(Root, interface),
        offset_of!(Root, schema),
        offset_of!(Root, attach_host)
    ));
    line(format!(
        "interface, {} bytes: table {}, size {}, layout {}",
        size_of::<RawInterface>(),
        offset_of!(RawInterface, table),
        offset_of!(RawInterface, size),
        offset_of!(RawInterface, layout)
    ));
    line(String::new());
    line(format!("strategy revision {}, layout {:016x}", strategy::REVISION, strategy::LAYOUT));
    line(format!("initializer revision {}, layout {:016x}", initializer::REVISION, initializer::LAYOUT));
    line(format!("reporter revision {}, layout {:016x}", reporter::REVISION, reporter::LAYOUT));
    structs(&mut line);
    plain_structs(&mut line);
    numbers(&mut line);
    json(&mut line);
    text
}

fn structs(line: &mut impl FnMut(String)) {
    macro_rules! describe {
        ($($kind:ty,)*) => { $(
            line(String::new());
            line(format!("{}, {} bytes, aligned to {}", stringify!($kind), size_of::<$kind>(), align_of::<$kind>()));
            for (name, kind, offset) in <$kind>::FIELDS {
                // Compilers differ in where they put spaces and line breaks when they print a type.
                let kind: String = kind.split_whitespace().collect();
                line(format!("  {offset:>3} {name}: {kind}"));
            }
        )* };
    }
    describe!(
        strategy::Table,
        initializer::Table,
        reporter::Table,
        RawFault,
        strategy::RawSaved,
        strategy::RawContext<'static>,
        strategy::RawSink,
        strategy::RawInsert<'static>,
        strategy::RawTrain<'static>,
        strategy::RawOptimizer<'static>,
        initializer::RawInitContext<'static>,
        initializer::RawBlock<'static>,
        initializer::RawTensor<'static>,
        initializer::RawTensorMut<'static>,
    );
}

fn plain_structs(line: &mut impl FnMut(String)) {
    line(String::new());
    line(format!(
        "Block, {} bytes: id {}, born_at_step {}, trains {}",
        size_of::<Block>(),
        offset_of!(Block, id),
        offset_of!(Block, born_at_step),
        offset_of!(Block, trains)
    ));
    line(format!(
        "LossPoint, {} bytes: step {}, loss_nats_per_token {}",
        size_of::<LossPoint>(),
        offset_of!(LossPoint, step),
        offset_of!(LossPoint, loss_nats_per_token)
    ));
    line(format!(
        "Evaluation, {} bytes: step {}, tokens {}, loss_nats_per_token {}",
        size_of::<Evaluation>(),
        offset_of!(Evaluation, step),
        offset_of!(Evaluation, tokens),
        offset_of!(Evaluation, loss_nats_per_token)
    ));
}

fn numbers(line: &mut impl FnMut(String)) {
    line(String::new());
    let kinds: Vec<String> = Kind::ALL.iter().map(|kind| format!("{kind} {}", kind.number())).collect();
    line(format!("kinds: {}", kinds.join(", ")));
    line(format!(
        "schedule: shift {}, rewarm {}, restart {}, extend {}, decay-now {}",
        schedule::SHIFT,
        schedule::REWARM,
        schedule::RESTART,
        schedule::EXTEND,
        schedule::DECAY_NOW
    ));
    line(format!(
        "tell: evaluate {}, checkpoint {}, stop {}, phase {}, accept {}, reject {}",
        tell::EVALUATE,
        tell::CHECKPOINT,
        tell::STOP,
        tell::PHASE,
        tell::ACCEPT,
        tell::REJECT
    ));
    line(format!(
        "roles: norm gain {}, norm shift {}, weight {}, bias {}, branch output weight {}, branch output bias {}",
        Role::NORM_GAIN.0,
        Role::NORM_SHIFT.0,
        Role::WEIGHT.0,
        Role::BIAS.0,
        Role::BRANCH_OUTPUT_WEIGHT.0,
        Role::BRANCH_OUTPUT_BIAS.0
    ));
}

fn json(line: &mut impl FnMut(String)) {
    fn shown(value: &impl Serialize) -> String {
        serde_json::to_string(value).unwrap_or_else(|error| format!("no JSON: {error}"))
    }
    line(String::new());
    let model = ModelFacts { layers: 1, width: 2, heads: 3, context: 4, vocabulary: 5, init_std: 0.5 };
    let budget = Budget { reference_steps: 6, flops: Some(7.5) };
    line(shown(&RunFacts { model, tokens_per_step: 8, budget, constant_rate: true }));
    let phase =
        PlannedPhase { label: "a".into(), first_step: 1, steps: Some(2), depth: 3, trains: "all".into() };
    let slots = vec!["new_blocks".into()];
    line(shown(&Plan { initial_depth: 1, deepest: 2, slots, phases: vec![phase] }));
    let receipt = GrowthReceipt {
        step: 1,
        depth_before: 2,
        depth_after: 3,
        new_layers: vec![LayerId(4)],
        removed_layers: vec![LayerId(5)],
        loss_before: 6.5,
        loss_after: 7.5,
        largest_token_loss_change: 8.5,
        claim: Some(Claim::Exact),
        moments: vec![("b".into(), "zero".into())],
        others_bit_identical: true,
    };
    line(shown(&[Claim::None, Claim::Approximate, Claim::Exact]));
    line(shown(&Event::Evaluated { step: 1, loss_nats_per_token: 2.5 }));
    line(shown(&Event::Edited(receipt)));
    line(shown(&Event::Resumed { step: 1 }));
    let run = MadeUpRun { name: "a".into(), ..MadeUpRun::new("b", 2) };
    line(shown(&run.session()));
    for event in run.events() {
        line(shown(&event));
    }
    line(shown(&RunEvent::RunStopped { run: "a".into(), reason: "b".into() }));
}
