//! Which run comes next: the first one that need not wait for another that it begins as a copy of.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use trainer::RunConfig;

use crate::running::execute::Execution;

/// How long a worker sleeps when every run that is left has to wait.
const WAIT: Duration = Duration::from_millis(20);

/// The runs of a study that are still to be begun, and those under way.
pub(crate) struct Queue(Mutex<Runs>);

struct Runs {
    waiting: Vec<RunConfig>,
    /// Names of those that are waiting or under way.
    open: BTreeSet<String>,
}

enum Next {
    Run(Box<RunConfig>),
    Wait,
    Nothing,
}

impl Queue {
    pub(crate) fn new(runs: Vec<RunConfig>) -> Queue {
        let open = runs.iter().map(RunConfig::name).collect();
        Queue(Mutex::new(Runs { waiting: runs, open }))
    }

    /// The next run; `None` where none is left, or somebody interrupts.
    pub(crate) fn next(&self, how: &Execution<'_>) -> Option<RunConfig> {
        while !how.interrupt.load(Ordering::Relaxed) {
            match self.look(how) {
                Next::Run(run) => return Some(*run),
                Next::Nothing => return None,
                Next::Wait => std::thread::sleep(WAIT),
            }
        }
        None
    }

    /// A run has come to an end, good or bad: those that waited for it wait no longer.
    pub(crate) fn done(&self, run: &RunConfig) {
        self.runs().open.remove(&run.name());
    }

    pub(crate) fn never_begun(self) -> usize {
        self.runs().waiting.len()
    }

    fn look(&self, how: &Execution<'_>) -> Next {
        let mut runs = self.runs();
        if runs.waiting.is_empty() {
            return Next::Nothing;
        }
        let Runs { waiting, open } = &*runs;
        let ready = waiting.iter().position(|run| {
            let name = run.name();
            let model = how.sharing.begins_as(&name).map(|(model, _)| model);
            model.is_none_or(|model| !open.contains(model)) || how.sharing.prefix(how.folder, &name).is_some()
        });
        ready.map_or(Next::Wait, |index| Next::Run(Box::new(runs.waiting.remove(index))))
    }

    fn runs(&self) -> std::sync::MutexGuard<'_, Runs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
