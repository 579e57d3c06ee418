//! A plugin that is ready to be called: who it is, what its calls have taken, and the blame for a call that fails.

use std::ops::AddAssign;
use std::time::Instant;

use sapwood_plugin::{Error, Kind};
use serde::{Deserialize, Serialize};

use crate::PluginError;
use crate::conformance::Examination;

/// What a result is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The kind.
    pub kind: Kind,
    /// The id.
    pub id: String,
    /// The plugin's own version.
    pub version: String,
    /// Hash of the library's bytes; empty for a plugin that is part of this binary (tests).
    pub sha256: String,
}

/// What the calls of a plugin have taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TimeSpent {
    /// How many there were.
    pub calls: u64,
    /// How long they took, the way to an isolated plugin and back included.
    pub seconds: f64,
}

impl AddAssign for TimeSpent {
    fn add_assign(&mut self, other: TimeSpent) {
        self.calls += other.calls;
        self.seconds += other.seconds;
    }
}

/// A plugin, ready to be called, and where it comes from.
pub struct Loaded<P: ?Sized> {
    /// Where it comes from.
    pub provenance: Provenance,
    /// What `sapwood plugin validate` found of it, if this user has asked.
    pub examined: Option<Examination>,
    plugin: Box<P>,
    spent: TimeSpent,
}

impl<P: ?Sized> Loaded<P> {
    pub(crate) fn new(provenance: Provenance, examined: Option<Examination>, plugin: Box<P>) -> Loaded<P> {
        Loaded { provenance, examined, plugin, spent: TimeSpent::default() }
    }

    /// A plugin that is part of this binary.
    pub fn built_in(kind: Kind, id: &str, plugin: Box<P>) -> Loaded<P> {
        let (id, version, sha256) = (id.to_owned(), String::new(), String::new());
        Loaded::new(Provenance { kind, id, version, sha256 }, None, plugin)
    }

    /// Calls it.
    pub fn call<T>(&mut self, work: impl FnOnce(&mut P) -> T) -> T {
        let started = Instant::now();
        let answer = work(&mut self.plugin);
        self.spent += TimeSpent { calls: 1, seconds: started.elapsed().as_secs_f64() };
        answer
    }

    /// Calls it, and blames it where that fails.
    ///
    /// # Errors
    /// What the plugin answers, with its name.
    pub fn ask<T>(
        &mut self,
        call: &str,
        work: impl FnOnce(&mut P) -> sapwood_plugin::Result<T>,
    ) -> Result<T, PluginError> {
        self.call(work).map_err(|error| self.fault(call, &error))
    }

    /// Blames this plugin for an error in that call.
    pub fn fault(&self, call: &str, error: &Error) -> PluginError {
        let Provenance { kind, id, .. } = self.provenance.clone();
        PluginError::Fault { kind, id, call: call.into(), message: error.to_string() }
    }

    /// What its calls have taken since this was last asked.
    pub fn take_time_spent(&mut self) -> TimeSpent {
        std::mem::take(&mut self.spent)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn calls_are_counted_and_timed_until_they_are_asked_for() {
        let mut loaded = Loaded::built_in(Kind::Strategy, "t/slow", Box::new(7));
        loaded.call(|_| std::thread::sleep(Duration::from_millis(20)));
        assert_eq!(loaded.ask("plan", |number| Ok(*number)), Ok(7));
        let spent = loaded.take_time_spent();
        assert!(spent.calls == 2 && spent.seconds >= 0.02, "{spent:?}");
        assert_eq!(loaded.take_time_spent(), TimeSpent::default());
    }

    #[test]
    fn a_call_that_fails_is_counted_and_blamed() {
        let mut loaded = Loaded::built_in(Kind::Initializer, "t/bad", Box::new(()));
        let failed = loaded.ask("init", |()| Err::<(), _>(Error::new("no seed left")));
        let said = failed.map_err(|error| error.to_string());
        assert_eq!(said, Err("the initializer `t/bad` failed in `init`: no seed left".into()));
        assert_eq!(loaded.take_time_spent().calls, 1);
    }
}
