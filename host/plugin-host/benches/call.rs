//! What a call into a loaded strategy costs that decides nothing, in process and isolated. Needs what it loads built
//! in the same profile: `cargo build --release -p strategy-baseline -p sapwood && cargo bench -p plugin-host`.
#![allow(clippy::print_stdout)]

use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use plugin_host::api::{Action, ActionSink, Actions, Block, Error, LayerId, Pushed, Result, StepContext};
use plugin_host::{ChildProgram, Choice, Isolation, Registry, SearchPath, blame};

struct Nothing;

impl ActionSink for Nothing {
    fn push(&mut self, _: Action) -> Result<Pushed> {
        Err(Error::new("nothing was to be decided"))
    }
}

fn silent_call(criterion: &mut Criterion) {
    let binary = std::env::current_exe().expect("a running benchmark has a file");
    let folders: Vec<PathBuf> = binary.ancestors().skip(1).take(2).map(PathBuf::from).collect();
    // Watched as in the command line, crumbs and watchdog included.
    let watched = blame::begin(blame::Blame { on_slow: |_| {}, on_hang: |_| 12, on_exit: |_| 11 });
    watched.expect("a state folder");
    let host = folders.iter().map(|folder| folder.join("sapwood")).find(|host| host.is_file());
    measure(criterion, "before_step that decides nothing", &folders, Isolation::None, None);
    match host {
        Some(host) => {
            let name = "before_step that decides nothing, isolated";
            measure(criterion, name, &folders, Isolation::Process, Some(host));
        }
        None => println!("isolated: left out, `cargo build --release -p sapwood` was not run"),
    }
    blame::end();
}

fn measure(
    criterion: &mut Criterion,
    name: &str,
    folders: &[PathBuf],
    isolation: Isolation,
    host: Option<PathBuf>,
) {
    let mut registry = Registry::scan(SearchPath(folders.to_vec()));
    if let Some(program) = host {
        registry =
            registry.with_child_program(ChildProgram { program, arguments: vec!["plugin-host".into()] });
    }
    let choice =
        Choice { id: "sapwood/baseline".into(), library: None, isolation, config: serde_json::json!({}) };
    let mut strategy = registry.strategy(&choice).expect("built beside this benchmark");
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
    criterion.bench_function(name, |bencher| {
        bencher.iter(|| {
            strategy.call(|strategy| strategy.before_step(&context, &mut Actions::new(&mut Nothing)))
        });
    });
}

criterion_group!(benches, silent_call);
criterion_main!(benches);
