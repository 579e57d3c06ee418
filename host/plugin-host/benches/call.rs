//! What calls into loaded plugins cost, in process and isolated: a strategy that decides nothing, and an initializer
//! that copies a block of GPT-2's width beside eleven others. Needs what it loads built in the same profile:
//! `cargo build --release --workspace && cargo bench -p plugin-host`.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use plugin_host::api::{
    Action, ActionSink, Actions, Block, BlockView, Error, InitContext, Key, LayerId, Pushed, Result, Role,
    StepContext, TensorMut, TensorView,
};
use plugin_host::{ChildProgram, Choice, Isolation, Registry, SearchPath, blame};

const WIDTH: u64 = 768;
const BLOCKS: u64 = 11;

struct Nothing;

impl ActionSink for Nothing {
    fn push(&mut self, _: Action) -> Result<Pushed> {
        Err(Error::new("nothing was to be decided"))
    }
}

/// Where a plugin is hosted, and what the benchmark's name says of it.
struct Hosting {
    registry: Registry,
    isolation: Isolation,
    words: &'static str,
}

impl Hosting {
    fn choice(&self, id: &str) -> Choice {
        let (id, config) = (id.to_owned(), serde_json::json!({}));
        Choice { id, library: None, isolation: self.isolation, config }
    }
}

fn hostings() -> Vec<Hosting> {
    let binary = std::env::current_exe().expect("a running benchmark has a file");
    let folders: Vec<PathBuf> = binary.ancestors().skip(1).take(2).map(PathBuf::from).collect();
    let registry = || Registry::scan(SearchPath(folders.clone()));
    let mut hostings =
        vec![Hosting { registry: registry(), isolation: Isolation::None, words: "in process" }];
    match folders.iter().map(|folder| folder.join("sapwood")).find(|host| host.is_file()) {
        Some(program) => {
            let program = ChildProgram { program, arguments: vec!["plugin-host".into()] };
            let registry = registry().with_child_program(program);
            hostings.push(Hosting { registry, isolation: Isolation::Process, words: "isolated" });
        }
        None => println!("isolated: left out, `cargo build --release -p sapwood` was not run"),
    }
    hostings
}

fn calls(criterion: &mut Criterion) {
    // Watched as in the command line, crumbs and watchdog included.
    let watched = blame::begin(blame::Blame { on_slow: |_| {}, on_hang: |_| 12, on_exit: |_| 11 });
    watched.expect("a state folder");
    for hosting in hostings() {
        silent_call(criterion, &hosting);
        initialization(criterion, &hosting);
    }
    blame::end();
}

fn silent_call(criterion: &mut Criterion, hosting: &Hosting) {
    let choice = hosting.choice("sapwood/baseline");
    let mut strategy = hosting.registry.strategy(&choice).expect("built beside this benchmark");
    let blocks: Vec<Block> =
        (0..12).map(|id| Block { id: LayerId(id), born_at_step: 0, trains: 1 }).collect();
    let context = StepContext {
        step: 1,
        tokens: 512,
        flops: 1e9,
        learning_rate: 1e-3,
        progress: 0.5,
        phase: "all",
        blocks: &blocks,
        losses: &[],
        evaluations: &[],
    };
    criterion.bench_function(&format!("before_step that decides nothing, {}", hosting.words), |bencher| {
        bencher.iter(|| {
            strategy.call(|strategy| strategy.before_step(&context, &mut Actions::new(&mut Nothing)))
        });
    });
}

fn initialization(criterion: &mut Criterion, hosting: &Hosting) {
    let choice = hosting.choice("sapwood/copy");
    let mut initializer = hosting.registry.initializer(&choice).expect("built beside this benchmark");
    let values: Vec<Vec<f32>> = shapes().iter().map(|shape| vec![0.5; elements(shape)]).collect();
    let views: Vec<TensorView<'_>> = (shapes().iter().zip(&values))
        .map(|(shape, values)| TensorView { class: "tensor", role: Role::WEIGHT, shape, values })
        .collect();
    let existing: Vec<BlockView<'_>> =
        (0..BLOCKS).map(|id| BlockView { id: LayerId(id), tensors: &views }).collect();
    let context = InitContext {
        layer: LayerId(BLOCKS),
        position: BLOCKS as usize,
        depth_before: BLOCKS as usize,
        depth_after: BLOCKS as usize + 1,
        final_depth: BLOCKS as usize + 1,
        init_std: 0.02,
        key: Key(1),
        source: Some(LayerId(0)),
        existing: &existing,
        original: &views,
    };
    let mut new: Vec<Vec<f32>> = shapes().iter().map(|shape| vec![0.0; elements(shape)]).collect();
    criterion.bench_function(&format!("init of a block 768 wide, {}", hosting.words), |bencher| {
        bencher.iter(|| {
            let mut target: Vec<TensorMut<'_>> = (shapes().iter().zip(&mut new))
                .map(|(shape, values)| TensorMut { class: "tensor", role: Role::WEIGHT, shape, values })
                .collect();
            let claim = initializer.call(|initializer| initializer.init(&context, &mut target));
            black_box(claim.expect("a source is there"))
        });
    });
}

/// GPT-2's twelve tensors of a block.
fn shapes() -> &'static [&'static [u64]; 12] {
    const C: u64 = WIDTH;
    &[&[C], &[C], &[C, 3 * C], &[3 * C], &[C, C], &[C], &[C], &[C], &[C, 4 * C], &[4 * C], &[4 * C, C], &[C]]
}

fn elements(shape: &[u64]) -> usize {
    shape.iter().product::<u64>() as usize
}

criterion_group!(benches, calls);
criterion_main!(benches);
