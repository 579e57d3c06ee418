//! How many runs side by side: as many as cores and memory allow. Not here: what a run takes (`memory`), and what a
//! machine has (`room`).

mod room;

use crate::lab::PlannedArm;
use crate::planning::memory::{PhaseMemory, mebibytes};

pub use room::Room;

/// How many runs side by side, and why so many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packing {
    /// Runs side by side.
    pub jobs: usize,
    /// In words, for the log.
    pub reason: String,
}

/// As many runs as there are cores for, and memory for where the engine can tell what one takes: each at the largest
/// phase of all, for they may come to it together. A tenth of the memory is left to others.
pub fn pack(arms: &[PlannedArm], threads_per_run: usize, room: &Room) -> Packing {
    let runs = arms.iter().map(|arm| arm.runs.len()).sum();
    packed(runs, largest_phase(arms), threads_per_run, room)
}

fn packed(runs: usize, peak: Option<u64>, threads_per_run: usize, room: &Room) -> Packing {
    let by_cores = (room.cores / threads_per_run.max(1)).max(1);
    let cores = format!("{} cores at {threads_per_run} threads a run hold {by_cores}", room.cores);
    let (most, reason) = match (peak, room.memory_bytes) {
        (Some(peak), Some(bytes)) if peak > 0 => {
            let by_memory = usize::try_from(bytes / 10 * 9 / peak).unwrap_or(usize::MAX);
            let memory = format!(
                "nine tenths of the {:.0} MiB free hold {by_memory} at up to {:.1} MiB a run",
                mebibytes(bytes),
                mebibytes(peak)
            );
            (by_cores.min(by_memory.max(1)), format!("{cores}, {memory}"))
        }
        (None, _) => (by_cores, format!("{cores}; the engine cannot tell what memory a run takes")),
        _ => (by_cores, format!("{cores}; what memory is free is not known")),
    };
    let jobs = most.clamp(1, runs.max(1));
    let reason = if jobs < most { format!("{reason}; there are {runs} runs") } else { reason };
    Packing { jobs, reason }
}

/// The most that any phase of any arm holds; `None` where the engine cannot tell of one.
fn largest_phase(arms: &[PlannedArm]) -> Option<u64> {
    let peak = |arm: &PlannedArm| arm.memory.as_ref()?.iter().map(PhaseMemory::peak).max();
    arms.iter().map(peak).try_fold(0, |most, peak| Some(most.max(peak?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(
        runs: usize,
        peak_mib: Option<u64>,
        threads: usize,
        cores: usize,
        free_mib: Option<u64>,
    ) -> Packing {
        let room = Room { cores, memory_bytes: free_mib.map(|mib| mib << 20) };
        packed(runs, peak_mib.map(|mib| mib << 20), threads, &room)
    }

    #[test]
    fn the_scarcer_of_cores_and_memory_decides() {
        assert_eq!(jobs(99, Some(10), 2, 16, Some(1000)).jobs, 8);
        assert_eq!(jobs(99, Some(300), 2, 16, Some(1000)).jobs, 3);
        assert_eq!(jobs(99, None, 2, 16, Some(1000)).jobs, 8);
        assert_eq!(jobs(99, Some(300), 2, 16, None).jobs, 8);
        assert_eq!(jobs(4, Some(10), 2, 16, Some(1000)).jobs, 4);
    }

    #[test]
    fn one_run_is_always_tried() {
        assert_eq!(jobs(9, Some(2000), 2, 16, Some(1000)).jobs, 1);
        assert_eq!(jobs(9, Some(10), 8, 4, Some(1000)).jobs, 1);
    }

    #[test]
    fn the_reason_says_both() {
        expect_test::expect!["16 cores at 2 threads a run hold 8, nine tenths of the 1000 MiB free hold 3 at up to 300.0 MiB a run"]
            .assert_eq(&jobs(99, Some(300), 2, 16, Some(1000)).reason);
    }
}
