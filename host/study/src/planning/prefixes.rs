//! Which runs begin as copies of others, as their dry runs foresee it: what arms have in common is trained once. Whether
//! it was in common is proved while training (`trainer`); here it is only planned.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use engine::{Flops, Step};
use serde::Serialize;
use trainer::folder::RunFolder;
use trainer::{Prefix, Rehearsal, RunConfig, Turns, checkpoint};

use crate::PlannedArm;

/// Steps that have to be shared for each checkpoint which that takes.
const STEPS_PER_CHECKPOINT: u64 = 4;

/// Who begins as whose copy, by the copies' names.
#[derive(Clone, Debug, Default)]
pub struct Sharing(BTreeMap<String, Copied>);

#[derive(Clone, Debug)]
struct Copied {
    /// The run that it begins as a copy of.
    model: String,
    /// Its first step of its own.
    until: Step,
    /// Steps before which tensors are looked at while it is a copy, by itself or by copies of it.
    needs: BTreeSet<Step>,
}

/// What sharing is foreseen to save.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Saving {
    /// Runs that begin as copies.
    pub copies: usize,
    /// All runs.
    pub runs: usize,
    /// Exact FLOPs that are not computed a second time.
    pub saved: Flops,
    /// The sum of all runs'.
    pub sum: Flops,
}

/// A run of the first seed, with its dry run.
struct Candidate<'a> {
    run: &'a RunConfig,
    rehearsal: &'a Rehearsal,
}

impl Candidate<'_> {
    fn turns(&self) -> &Turns {
        &self.rehearsal.turns
    }

    /// The first step that it has not in common with the other, short of the last one of either.
    fn common(&self, other: &Candidate<'_>) -> Step {
        let last = self.rehearsal.steps.min(other.rehearsal.steps).0.saturating_sub(1);
        self.turns().common(other.turns()).min(Step(last))
    }

    fn needs(&self, until: Step) -> BTreeSet<Step> {
        self.turns().looks_until(until).chain([until]).collect()
    }

    /// The run before it that it has most in common with, where that is worth a checkpoint.
    fn model(&self, earlier: &[Candidate<'_>]) -> Option<(usize, Step)> {
        let common = earlier.iter().enumerate().map(|(index, other)| (index, self.common(other)));
        // Of several the first: it is begun first.
        let best = common.rev().max_by_key(|(_, common)| *common);
        best.filter(|(_, until)| until.0 >= STEPS_PER_CHECKPOINT * self.needs(*until).len() as u64)
    }
}

impl Sharing {
    /// As the dry runs of a study's arms have it; every seed alike.
    pub fn of(planned: &[PlannedArm]) -> Sharing {
        let candidates = candidates(planned);
        let seeds = planned.first().map(seeds).unwrap_or_default();
        let mut sharing = Sharing::default();
        for (index, (model, until, needs)) in copies(&candidates) {
            for &seed in &seeds {
                let name = |index: usize| RunConfig { seed, ..candidates[index].run.clone() }.name();
                let copied = Copied { model: name(model), until, needs: needs.clone() };
                sharing.0.insert(name(index), copied);
            }
        }
        sharing
    }

    /// What that is foreseen to save, all seeds together.
    pub fn saving(&self, planned: &[PlannedArm]) -> Saving {
        let candidates = candidates(planned);
        let seeds = planned.first().map(|arm| seeds(arm).len()).unwrap_or_default();
        let mut saving = Saving { copies: 0, runs: 0, saved: Flops(0), sum: Flops(0) };
        for Candidate { run, rehearsal } in &candidates {
            let until = self.begins_as(&run.name()).map_or(Step(0), |(_, until)| until);
            for _ in 0..seeds {
                saving.runs += 1;
                saving.copies += usize::from(until.0 > 0);
                saving.saved += rehearsal.flops_until(until);
                saving.sum += rehearsal.costs.flops.total();
            }
        }
        saving
    }

    /// The run that this one begins as a copy of, and its first step of its own.
    pub fn begins_as(&self, run: &str) -> Option<(&str, Step)> {
        self.0.get(run).map(|copied| (copied.model.as_str(), copied.until))
    }

    /// What a run may begin as now.
    pub(crate) fn prefix(&self, study: &Path, run: &str) -> Option<Prefix> {
        let (model, until) = self.begins_as(run)?;
        let folder = folder_of(study, model);
        folder.fork(until).is_dir().then(|| Prefix { run: model.to_owned(), folder, until })
    }

    /// Steps before which a run is to be saved for those of its copies that have not begun yet.
    pub(crate) fn forks(&self, study: &Path, run: &str) -> BTreeSet<Step> {
        let waiting = |(name, copied): &(&String, &Copied)| {
            copied.model == run && !stands_alone(&folder_of(study, name))
        };
        self.0.iter().filter(waiting).flat_map(|(_, copied)| copied.needs.iter().copied()).collect()
    }

    /// Removes what a run has saved for others that need it no longer.
    pub(crate) fn tidy(&self, study: &Path, run: &str) {
        let folder = folder_of(study, run);
        let needed: BTreeSet<PathBuf> =
            self.forks(study, run).into_iter().map(|step| folder.fork(step)).collect();
        let saved = fs::read_dir(folder.forks()).into_iter().flatten().flatten().map(|entry| entry.path());
        // One under a temporary name is being written at this moment.
        for fork in saved.filter(|fork| fork.extension().is_none() && !needed.contains(fork)) {
            if let Err(error) = fs::remove_dir_all(&fork) {
                tracing::warn!(
                    run,
                    "{} is of no use any more, but cannot be removed: {error}",
                    fork.display()
                );
            }
        }
        // One that still holds something stays.
        let _ = fs::remove_dir(folder.forks());
    }
}

/// The run has a state of its own to go on from.
fn stands_alone(folder: &RunFolder) -> bool {
    folder.is_done() || checkpoint::list(&folder.checkpoints()).is_ok_and(|found| !found.is_empty())
}

fn folder_of(study: &Path, run: &str) -> RunFolder {
    RunFolder::at(study.join("runs").join(run))
}

fn candidates(planned: &[PlannedArm]) -> Vec<Candidate<'_>> {
    planned.iter().flat_map(of_arm).collect()
}

/// One a budget.
fn of_arm(arm: &PlannedArm) -> impl Iterator<Item = Candidate<'_>> {
    let rehearsals = arm.shorter.iter().chain([&arm.rehearsal]);
    let firsts = arm.runs.chunks(arm.runs.len() / (arm.shorter.len() + 1)).map(|of_budget| &of_budget[0]);
    firsts.zip(rehearsals).map(|(run, rehearsal)| Candidate { run, rehearsal })
}

fn seeds(arm: &PlannedArm) -> Vec<u64> {
    let budget = arm.runs.first().map(|run| run.budget.label());
    arm.runs.iter().filter(|run| Some(run.budget.label()) == budget).map(|run| run.seed).collect()
}

/// A copy's model, its first step of its own, and the steps before which tensors are looked at until then.
type Copy = (usize, Step, BTreeSet<Step>);

fn copies(candidates: &[Candidate<'_>]) -> BTreeMap<usize, Copy> {
    let of_index = |index: usize| {
        let (model, until) = candidates[index].model(&candidates[..index])?;
        Some((index, (model, until, candidates[index].needs(until))))
    };
    let mut copies: BTreeMap<usize, Copy> = (0..candidates.len()).filter_map(of_index).collect();
    // A copy comes after what it copies: from the last to the first, what one needs is known before its model is asked.
    for index in (0..candidates.len()).rev() {
        let Some((model, _, needs)) = copies.get(&index).cloned() else { continue };
        if let Some((_, until, of_model)) = copies.get_mut(&model) {
            of_model.extend(needs.range(..=*until));
        }
    }
    copies
}
