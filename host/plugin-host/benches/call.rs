//! What a call into a loaded strategy costs that decides nothing. Needs the plugins built in the same
//! profile: `cargo build --release -p strategy-baseline && cargo bench -p plugin-host`.

use std::path::PathBuf;

use criterion::{Criterion, criterion_group, criterion_main};
use plugin_host::api::{Action, ActionSink, Actions, Block, Error, LayerId, Pushed, Result, StepContext};
use plugin_host::{Choice, Registry, SearchPath};

struct Nothing;

impl ActionSink for Nothing {
    fn push(&mut self, _: Action) -> Result<Pushed> {
        Err(Error::new("nothing was to be decided"))
    }
}

fn silent_call(criterion: &mut Criterion) {
    let binary = std::env::current_exe().expect("a running benchmark has a file");
    let folders: Vec<PathBuf> = binary.ancestors().skip(1).take(2).map(PathBuf::from).collect();
    let registry = Registry::scan(SearchPath(folders));
    let choice = Choice { id: "sapwood/baseline".into(), library: None, config: serde_json::json!({}) };
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
    criterion.bench_function("before_step that decides nothing", |bencher| {
        bencher.iter(|| strategy.plugin.before_step(&context, &mut Actions::new(&mut Nothing)));
    });
}

criterion_group!(benches, silent_call);
criterion_main!(benches);
