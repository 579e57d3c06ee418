//! Checkpoints: when they are due, and what is brought together for one. How it is written: `checkpoint.rs`; beside training:
//! `writer.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use engine::{Snapshot, Wait};
use plugin_host::{Loaded, TimeSpent};

use super::start::initializer_state;
use super::{Parts, Run, SavedPlugins};
use crate::checkpoint::{self, RunState, Tensors};
use crate::costs::timed;
use crate::storage::create_folder;
use crate::{TrainError, Writing};

impl Run<'_> {
    pub(super) fn checkpoint_is_due(&self) -> bool {
        let step = self.state.step.0;
        step > 0 && step.is_multiple_of(self.parts.config.checkpoints.every_steps) && !self.state.decided
            // Until then going on is to begin as a copy again.
            && self.ahead.is_none()
    }

    pub(super) fn fork_is_due(&self) -> bool {
        let step = self.state.step;
        step.0 > 0
            && !self.state.decided
            && self.parts.forks.contains(&step)
            && !self.parts.folder.fork(step).exists()
    }

    /// Saves for other runs that begin as copies of this one.
    pub(super) fn save_for_others(&mut self) -> Result<(), TrainError> {
        let forks = self.parts.folder.forks();
        create_folder(&forks)?;
        let name = format!("{:08}", self.state.step.0);
        self.save_into(&forks, &name, None, Writing::AtOnce)
    }

    /// Saves, unless the run is still another's copy: going on, it begins as one again.
    pub(super) fn save_unless_ahead(&mut self) -> Result<(), TrainError> {
        if self.ahead.is_some() { Ok(()) } else { self.save(None) }
    }

    /// Saves under the step's number, and a name where it is to be kept; then it is there.
    pub(super) fn save(&mut self, name: Option<&str>) -> Result<(), TrainError> {
        self.save_by_number(name, Writing::AtOnce)
    }

    /// Saves under the step's number, while training goes on if the configuration has it so.
    pub(super) fn save_meanwhile(&mut self) -> Result<(), TrainError> {
        self.save_by_number(None, self.parts.config.checkpoints.write)
    }

    fn save_by_number(&mut self, name: Option<&str>, writing: Writing) -> Result<(), TrainError> {
        let number = format!("{:08}", self.state.step.0);
        let name = name.map_or(number.clone(), |name| format!("{number}-{name}"));
        let (checkpoints, keep) = (self.parts.folder.checkpoints(), self.parts.config.checkpoints.keep);
        self.save_into(&checkpoints, &name, Some(keep), writing)
    }

    /// `keep` so many of the newest in that folder, where not all are kept.
    fn save_into(
        &mut self,
        folder: &Path,
        name: &str,
        keep: Option<usize>,
        writing: Writing,
    ) -> Result<(), TrainError> {
        self.check_owner()?;
        self.need_tensors()?;
        self.read_outcomes(Wait::ForAll)?;
        let is_asking = self.before_asking.is_some() && !self.state.decided;
        if !is_asking {
            // Before the logs: a shadow that fails in this leaves a line.
            self.state.plugins = self.saved_plugins()?;
        }
        self.state.logs = self.logs.lengths();
        let (untold, spent_flops) = (self.state.untold.clone(), self.state.costs.spent_flops());
        if let Some(before) = self.before_asking.as_ref().filter(|_| is_asking) {
            // Beside that, a plugin that has panicked can say no more what its state is.
            self.state.plugins = before.plugins.clone();
            self.state.logs.decisions = before.decisions_length;
            self.state.logs.shadows = before.shadows_length;
            self.state.untold = before.untold.clone();
            // A probe that did not come to its end is done again, and paid then.
            self.state.costs.set_spent_flops(before.spent_flops);
        }
        self.enter_plugin_times();
        let mut seconds = 0.0;
        timed(&mut seconds, || self.write(folder, name, keep, writing))?;
        self.state.costs.set_spent_flops(spent_flops);
        self.state.costs.wall.checkpoint_seconds += seconds;
        self.state.untold = untold;
        Ok(())
    }

    /// Writes the state down as it is now, after what is being written still.
    fn write(
        &mut self,
        folder: &Path,
        name: &str,
        keep: Option<usize>,
        writing: Writing,
    ) -> Result<(), TrainError> {
        self.writer.wait()?;
        let (folder, name, shape) = (folder.to_path_buf(), name.to_owned(), self.parts.config.model.clone());
        let (sync_logs, owner, taken_over) =
            (self.logs.syncing()?, self.parts.owner.clone(), self.taken_over());
        let save = move |state: &RunState, tensors: Tensors<'_>| {
            // Before the checkpoint counts, all lines that belong to it are on the disk.
            sync_logs()?;
            let may_count = || if owner.has_lost_now() { Err(taken_over) } else { Ok(()) };
            checkpoint::save(&folder, &name, &shape, state, tensors, may_count)?;
            keep.map_or(Ok(()), |keep| checkpoint::prune(&folder, keep))
        };
        match writing {
            Writing::AtOnce => save(&self.state, Tensors::Model(&*self.parts.engine)),
            Writing::Background => {
                let copy = Snapshot::take(&*self.parts.engine, &self.parts.config.model)?;
                let state = self.state.clone();
                self.writer.begin(move || save(&state, Tensors::Copied(&copy)))
            }
        }
    }

    /// A copy of the model is about to be taken: the one that is being written is let go first, so that never two are held.
    pub(super) fn hold_one_copy(&mut self) -> Result<(), TrainError> {
        let seconds = &mut self.state.costs.wall.checkpoint_seconds;
        timed(seconds, || self.writer.wait())
    }

    /// Looks whether the folder is still this run's, before it gets what cannot be taken back.
    pub(super) fn check_owner(&self) -> Result<(), TrainError> {
        if self.parts.owner.has_lost_now() { Err(self.taken_over()) } else { Ok(()) }
    }

    pub(super) fn taken_over(&self) -> TrainError {
        TrainError::TakenOver { step: self.state.step }
    }

    pub(super) fn saved_plugins(&mut self) -> Result<SavedPlugins, TrainError> {
        let saved = self.parts.strategy.ask("save", |strategy| strategy.save())?;
        let mut all = self.saved_initializers()?;
        all.insert("strategy".to_owned(), saved);
        all.extend(self.shadows.saved(self.state.step, &mut self.logs)?);
        Ok(all)
    }

    pub(super) fn saved_initializers(&mut self) -> Result<SavedPlugins, TrainError> {
        let mut all = SavedPlugins::new();
        for (slot, initializer) in &mut self.parts.initializers {
            all.insert(initializer_state(slot), initializer.ask("save", |initializer| initializer.save())?);
        }
        Ok(all)
    }

    /// Enters in the ledger what the plugins' calls have taken since it was done last.
    pub(super) fn enter_plugin_times(&mut self) {
        let Parts { strategy, initializers, .. } = &mut self.parts;
        let ledger = &mut self.state.costs.wall.plugins;
        enter_time(ledger, strategy);
        initializers.values_mut().for_each(|initializer| enter_time(ledger, initializer));
        for (name, spent) in self.shadows.take_times_spent() {
            *ledger.entry(name).or_default() += spent;
        }
    }
}

fn enter_time<P: ?Sized>(ledger: &mut BTreeMap<String, TimeSpent>, plugin: &mut Loaded<P>) {
    let spent = plugin.take_time_spent();
    *ledger.entry(plugin.provenance.id.clone()).or_default() += spent;
}
