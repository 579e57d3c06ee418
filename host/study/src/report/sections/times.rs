//! Where the seconds went.

use plugin_host::TimeSpent;

use super::{Content, Section};
use crate::ArmBeside;
use crate::verdict::Judgement;

pub(super) fn wall_times(judgement: &Judgement) -> Section {
    let mut header = vec!["arm", "training", "waiting for data", "evaluation"];
    let has_suites = judgement
        .beside
        .arms
        .iter()
        .filter_map(|told| told.mean_wall.as_ref())
        .any(|wall| wall.suite_seconds > 0.0);
    header.extend(has_suites.then_some("suites"));
    header.extend(["growth", "probes", "strategy", "checkpoints", "all"]);
    let rows = judgement.beside.arms.iter().filter_map(|told| {
        let wall = told.mean_wall.as_ref()?;
        let training = format!("{:.3}", wall.training_seconds);
        let waiting_percent = 100.0 * wall.data_seconds / wall.training_seconds.max(f64::MIN_POSITIVE);
        let waiting = format!("{:.3} ({waiting_percent:.2} %)", wall.data_seconds);
        let mut seconds = vec![wall.evaluation_seconds];
        seconds.extend(has_suites.then_some(wall.suite_seconds));
        seconds.extend([
            wall.growth_seconds,
            wall.probing_seconds,
            wall.plugin_seconds,
            wall.checkpoint_seconds,
            wall.total_seconds(),
        ]);
        let cells = seconds.into_iter().map(|seconds| format!("{seconds:.3}"));
        Some([told.arm.clone(), training, waiting].into_iter().chain(cells).collect())
    });
    let note = "Mean seconds of a finished run: those of different arms may be compared where nothing ran beside them (`--jobs 1`).";
    Section::of("Wall time by purpose", note, Content::Table { header, rows: rows.collect() })
}

pub(super) fn plugin_times(judgement: &Judgement) -> Section {
    let header = vec!["arm", "plugin", "calls", "seconds", "microseconds a call"];
    let of_arm = |told: &ArmBeside| {
        let plugins = told.mean_wall.iter().flat_map(|wall| &wall.plugins);
        let row = |(id, spent): (&String, &TimeSpent)| {
            let each = 1e6 * spent.seconds / spent.calls.max(1) as f64;
            let (calls, seconds) = (spent.calls.to_string(), format!("{:.3}", spent.seconds));
            vec![told.arm.clone(), id.clone(), calls, seconds, format!("{each:.1}")]
        };
        plugins.map(row).collect::<Vec<_>>()
    };
    let note = if has_shadows(judgement) {
        "Mean of a finished run, part of the times above: a strategy's calls stand under strategy, growth and \
         checkpoints, an initializer's under growth and checkpoints. A shadow's are no part of them: it rides along, \
         and is charged to nobody."
    } else {
        "Mean of a finished run, part of the times above: a strategy's calls stand under strategy, growth and \
         checkpoints, an initializer's under growth and checkpoints."
    };
    Section::of(
        "Time in plugins",
        note,
        Content::Table { header, rows: judgement.beside.arms.iter().flat_map(of_arm).collect() },
    )
}

fn has_shadows(judgement: &Judgement) -> bool {
    let mut ids =
        judgement.beside.arms.iter().flat_map(|told| &told.mean_wall).flat_map(|wall| wall.plugins.keys());
    ids.any(|id| id.ends_with("(shadow)"))
}
