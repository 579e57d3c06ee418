//! Everything that crosses, compared with what was frozen: `abi-revision-1.txt` beside this file. A difference fails,
//! whoever made it: what is frozen is not changed, a new revision stands beside it (`ABI.md`).
//!
//! A new version of the crate may add lines. Then, and only with a version in `Cargo.toml` and an entry in `CHANGELOG.md`
//! that say so, `SAPWOOD_FREEZE=1 cargo test -p sapwood-plugin --test abi_snapshot` writes the file again; no line goes.

use std::fmt::{Display, Write};
use std::mem::offset_of;
use std::path::{Path, PathBuf};

use abi_stable::std_types::{ROption, RResult, RSlice, RSliceMut, RStr, RString, RVec};
use sapwood_plugin::abi::boundary::RawFault;
use sapwood_plugin::abi::layout::{Described, START, hash_names, hash_numbers};
use sapwood_plugin::abi::root::{ABI_EPOCH, FACTS_FORMAT, FACTS_SECTION, RawHost, RawInterface, Root};
use sapwood_plugin::abi::{initializer, reporter, strategy};
use sapwood_plugin::testing::MadeUpRun;
use sapwood_plugin::{
    Above, Action, Budget, Claim, Descriptor, Event, GrowthReceipt, Insert, InterfaceFacts, Key, Kind,
    LayerId, Level, LibraryFacts, ModelFacts, MomentsRule, OptimizerChange, OptimizerRule, Plan,
    PlannedPhase, Role, RunEvent, RunFacts, ScheduleChange, Train, Which,
};
use serde::Serialize;

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// All that crosses, as text.
fn crossing() -> String {
    let mut text = String::new();
    root(&mut text);
    let (kind, table) = (Kind::Strategy, strategy::Table::DESCRIBED);
    interface(&mut text, kind, strategy::REVISION, strategy::LAYOUT, &table, &strategy::CROSSING);
    let (kind, table) = (Kind::Initializer, initializer::Table::DESCRIBED);
    interface(&mut text, kind, initializer::REVISION, initializer::LAYOUT, &table, &initializer::CROSSING);
    let (kind, table) = (Kind::Reporter, reporter::Table::DESCRIBED);
    interface(&mut text, kind, reporter::REVISION, reporter::LAYOUT, &table, &reporter::CROSSING);
    containers(&mut text);
    numbers(&mut text);
    facts(&mut text);
    values(&mut text);
    text
}

fn line(text: &mut String, line: impl Display) {
    writeln!(text, "{line}").expect("a text takes every line");
}

fn root(text: &mut String) {
    line(text, format_args!("root: epoch {ABI_EPOCH}, symbol _1as_0lib_1header_0root_bmodule_bloader"));
    // Each field as its type: another one would not compile.
    let _: fn(&Root) = |root| {
        let _: u32 = root.abi_epoch;
        let _: extern "C" fn(u32, u32) -> RawInterface = root.interface;
        let _: extern "C" fn(u32, RStr<'_>) -> RResult<RString, RString> = root.schema;
        let _: extern "C" fn(*const std::ffi::c_void) -> RResult<(), RString> = root.attach_host;
    };
    line(text, format_args!("  {:>3} abi_epoch: u32", offset_of!(Root, abi_epoch)));
    line(text, format_args!("  {:>3} interface: fn(u32,u32)->RawInterface", offset_of!(Root, interface)));
    line(
        text,
        format_args!("  {:>3} schema: fn(u32,RStr)->RResult<RString,RString>", offset_of!(Root, schema)),
    );
    line(
        text,
        format_args!("  {:>3} attach_host: fn(*RawHost)->RResult<(),RString>", offset_of!(Root, attach_host)),
    );
    let (size, align) = (size_of::<RawInterface>(), align_of::<RawInterface>());
    line(text, format_args!("RawInterface: size {size} align {align}"));
    line(text, format_args!("  {:>3} table: *const c_void", offset_of!(RawInterface, table)));
    line(text, format_args!("  {:>3} size: u64", offset_of!(RawInterface, size)));
    line(text, format_args!("  {:>3} layout: u64", offset_of!(RawInterface, layout)));
    described(text, &RawHost::DESCRIBED);
}

fn interface(
    text: &mut String,
    kind: Kind,
    revision: u32,
    layout: u64,
    table: &Described,
    crossing: &[Described],
) {
    line(text, format_args!("\n{kind} interface, revision {revision}: layout {layout:016x}"));
    described(text, table);
    crossing.iter().for_each(|crossing| described(text, crossing));
}

fn described(text: &mut String, crossing: &Described) {
    let Described { name, size, align, layout, .. } = crossing;
    line(text, format_args!("{name}: size {size} align {align} layout {layout:016x}"));
    for (field, kind, offset) in crossing.fields {
        // How a type is spaced when it is printed differs between compilers.
        let kind: String = kind.split_whitespace().collect();
        line(text, format_args!("  {offset:>3} {name}.{field}: {kind}"));
    }
}

fn containers(text: &mut String) {
    line(text, "\ncontainers (size, alignment)");
    let mut row =
        |name: &str, size: usize, align: usize| line(text, format_args!("  {name}: {size}, {align}"));
    row("RStr", size_of::<RStr<'_>>(), align_of::<RStr<'_>>());
    row("RSlice", size_of::<RSlice<'_, u64>>(), align_of::<RSlice<'_, u64>>());
    row("RSliceMut", size_of::<RSliceMut<'_, f32>>(), align_of::<RSliceMut<'_, f32>>());
    row("RString", size_of::<RString>(), align_of::<RString>());
    row("RVec", size_of::<RVec<u8>>(), align_of::<RVec<u8>>());
    row("ROption<RSlice>", size_of::<ROption<RSlice<'_, u64>>>(), align_of::<ROption<RSlice<'_, u64>>>());
    row("RResult<(), RawFault>", size_of::<RResult<(), RawFault>>(), align_of::<RResult<(), RawFault>>());
    row("RResult<u64, RawFault>", size_of::<RResult<u64, RawFault>>(), align_of::<RResult<u64, RawFault>>());
}

fn numbers(text: &mut String) {
    line(text, "\nnumbers that cross");
    for kind in Kind::ALL {
        line(text, format_args!("  kind {kind} = {}", kind.number()));
    }
    for level in Level::ALL {
        line(text, format_args!("  level {level:?} = {}", level.number()));
    }
    let roles = [
        ("norm gain", Role::NORM_GAIN),
        ("norm shift", Role::NORM_SHIFT),
        ("weight", Role::WEIGHT),
        ("bias", Role::BIAS),
        ("branch output weight", Role::BRANCH_OUTPUT_WEIGHT),
        ("branch output bias", Role::BRANCH_OUTPUT_BIAS),
    ];
    for (name, role) in roles {
        line(text, format_args!("  role {name} = {}", role.0));
    }
    for (name, number) in strategy::NUMBERS {
        line(text, format_args!("  {name} = {number}"));
    }
}

fn shown(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("what crosses as JSON can be written as JSON")
}

fn facts(text: &mut String) {
    line(text, format_args!("\nfacts in the link section {FACTS_SECTION}, format {FACTS_FORMAT}"));
    let plugin = Descriptor {
        kind: Kind::Reporter,
        id: "a/b".into(),
        version: "1.0.0".into(),
        summary: "S".into(),
        license: "L".into(),
        homepage: "H".into(),
    };
    let facts = LibraryFacts {
        format: FACTS_FORMAT,
        abi_epoch: ABI_EPOCH,
        sdk: "S".into(),
        rustc: "R".into(),
        target: "T".into(),
        panic: "unwind".into(),
        interfaces: vec![InterfaceFacts { kind: Kind::Strategy, revision: 1, layout: "L".into() }],
        plugins: vec![plugin],
    };
    line(text, shown(&facts));
}

/// What crosses as JSON, one example each.
fn values(text: &mut String) {
    line(text, "\nvalues that cross as JSON");
    let model =
        ModelFacts { layers: 2, width: 4, heads: 1, context: 8, vocabulary: 16, init_std: 0.5, mlp_width: 0 };
    let budget = Budget { reference_steps: 3, flops: Some(1.5) };
    line(
        text,
        shown(&RunFacts { model, tokens_per_step: 8, budget, constant_rate: true, key: Key::default() }),
    );
    let (label, trains) = ("p".to_owned(), "all".to_owned());
    let phase = PlannedPhase { label, first_step: 0, steps: Some(3), depth: 1, trains };
    line(text, shown(&Plan { slots: vec!["s".into()], phases: vec![phase], ..Plan::fixed_depth(1, 2) }));
    let receipt = GrowthReceipt {
        step: 1,
        depth_before: 1,
        depth_after: 2,
        new_layers: vec![LayerId(1)],
        removed_layers: vec![],
        replaced_layers: Vec::new(),
        loss_before: 1.0,
        loss_after: 1.5,
        largest_token_loss_change: 0.5,
        largest_logit_change: None,
        claim: Some(Claim::Exact),
        widths: None,
        activation_rms_before: Vec::new(),
        activation_rms_after: Vec::new(),
        without_gradient: Vec::new(),
        moments: vec![("a".into(), "zero".into())],
        others_bit_identical: true,
    };
    line(text, shown(&Event::Evaluated { step: 1, loss_nats_per_token: 2.5 }));
    line(text, shown(&Event::Edited(receipt)));
    line(text, shown(&Event::Resumed { step: 1 }));
    let run = MadeUpRun::new("f", 2);
    line(text, shown(&run.session()));
    let mut kinds = Vec::new();
    for event in run.events() {
        let kind = std::mem::discriminant(&event);
        if !kinds.contains(&kind) {
            kinds.push(kind);
            line(text, shown(&event));
        }
    }
    line(text, shown(&RunEvent::RunStopped { run: "r".into(), reason: "w".into() }));
    actions().iter().for_each(|action| line(text, shown(action)));
}

/// What the decision log holds of requests.
fn actions() -> Vec<Action> {
    let insert = |above, moments| {
        Action::Insert(Insert { above, count: 1, slot: "s".into(), sources: vec![LayerId(0)], moments })
    };
    let optimizer = |which, change| Action::Optimizer(OptimizerRule { which, change });
    vec![
        insert(Above::Embedding, MomentsRule::Zero),
        insert(Above::Layer(LayerId(0)), MomentsRule::FromInitializer),
        insert(Above::Layer(LayerId(0)), MomentsRule::CopyFromSource),
        Action::Remove(vec![LayerId(0)]),
        Action::Train(Train::with_shared(vec![LayerId(0)])),
        optimizer(Which::All, OptimizerChange::Reset),
        optimizer(Which::Shared, OptimizerChange::Scale { first: 0.5, second: 0.5 }),
        optimizer(Which::Class("c".into()), OptimizerChange::SetUpdates(1)),
        optimizer(Which::Layers(vec![LayerId(0)]), OptimizerChange::CopyFrom(LayerId(1))),
        Action::Schedule(ScheduleChange::Shift(0.5)),
        Action::Schedule(ScheduleChange::Rewarm(1)),
        Action::Schedule(ScheduleChange::Restart),
        Action::Schedule(ScheduleChange::Extend(2.0)),
        Action::Schedule(ScheduleChange::DecayNow(0.5)),
        Action::Evaluate,
        Action::Checkpoint("c".into()),
        Action::Stop("r".into()),
        Action::Phase("p".into()),
        Action::Metric { key: "k".into(), value: 0.5 },
        Action::Accept,
        Action::Reject("r".into()),
    ]
}

#[test]
fn what_was_frozen_is_as_it_was() {
    let path = beside("tests/abi-revision-1.txt");
    let now = format!("sapwood-plugin {VERSION}\n\n{}", crossing());
    let frozen = std::fs::read_to_string(&path).unwrap_or_default();
    if now == frozen {
        return;
    }
    // In their order: what stands after a line that is gone is gone with it, so the first one is the culprit.
    let mut rest = now.lines().skip(1);
    let gone = frozen.lines().skip(1).find(|line| !rest.any(|here| here == *line));
    assert_eq!(gone, None, "what is frozen has changed, or has moved; see ABI.md");
    let frozen_by = frozen.lines().next().unwrap_or_default().trim_start_matches("sapwood-plugin ");
    assert_ne!(
        frozen_by, VERSION,
        "something else crosses, so the crate's version has to move; see ABI.md\n{now}"
    );
    let changelog = std::fs::read_to_string(beside("CHANGELOG.md")).expect("there is a changelog");
    assert!(changelog.contains(&format!("## {VERSION}\n")), "CHANGELOG.md has no {VERSION}");
    assert!(std::env::var_os("SAPWOOD_FREEZE").is_some(), "SAPWOOD_FREEZE=1 freezes this:\n{now}");
    std::fs::write(&path, now).expect("room for a small file");
}

/// Names, types and places are in the hash, so that two sides that differ find out before the first call.
#[test]
fn a_field_that_is_renamed_or_moved_gives_another_layout() {
    assert_ne!(hash_names("a:u64,b:u64,", START), hash_names("b:u64,a:u64,", START));
    assert_ne!(hash_names("a:u64,", START), hash_names("a:&u64,", START));
    assert_ne!(hash_numbers(&[0, 8, 16], START), hash_numbers(&[8, 0, 16], START));
    // How a compiler prints a type is no difference.
    assert_eq!(hash_names("RSlice<'_, u8>", START), hash_names("RSlice < '_ , u8 >", START));
}
