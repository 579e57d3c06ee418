//! Strategies that ride along: asked what the run's own strategy is asked, checked as it is, written down in
//! `shadows.jsonl`, and never obeyed. Nothing that they do changes a bit of the run or its costs; one that fails is
//! dropped, and the run goes on.

use std::collections::BTreeMap;

use engine::{EngineInfo, Step};
use plugin_host::api::{Action, Event, GrowthReceipt, GrowthStrategy, Probed, Saved, StepContext};
use plugin_host::{Loaded, PluginError, TimeSpent};
use sha2::{Digest, Sha256};

use super::SavedPlugins;
use super::logs::Logs;
use crate::course::Course;
use crate::course::boundary::Moment;
use crate::course::boundary::probe_of;
use crate::folder::records::{ShadowRecord, ShadowSaid};
use crate::onlooker::{Asked, Onlooker, same_edits};
use crate::{RunConfig, TrainError};

/// Digits of a hash that tell a shadow's state from another's.
const DIGITS: usize = 16;

/// The strategies that ride along.
#[derive(Default)]
pub(super) struct Shadows(Vec<Shadow>);

struct Shadow {
    /// As the log has it.
    name: String,
    /// The name of its state in checkpoints: that of another configuration is another's.
    state_name: String,
    standing: Standing,
    /// Of calls before it was dropped.
    spent: TimeSpent,
}

enum Standing {
    Rides(Box<Rider>),
    Dropped(String),
}

struct Rider {
    onlooker: Onlooker,
    /// What it has asked for before the coming step.
    asked: Vec<Action>,
    /// Whether it has gone on from a checkpoint.
    restored: bool,
}

impl Shadows {
    /// Has them ride along from where the run stands: those that did so before go on, others begin now.
    ///
    /// # Errors
    /// The log cannot be written. A shadow that fails is dropped.
    pub(super) fn start(
        strategies: Vec<Loaded<dyn GrowthStrategy>>,
        config: &RunConfig,
        engine: &EngineInfo,
        (step, plugins): (Step, &SavedPlugins),
        logs: &mut Logs,
    ) -> Result<Shadows, TrainError> {
        let mut of_id: BTreeMap<String, usize> = BTreeMap::new();
        let mut all = Vec::new();
        for (index, strategy) in strategies.into_iter().enumerate() {
            let chosen = config.shadows.get(index).map_or(&serde_json::Value::Null, |choice| &choice.config);
            let count = of_id.entry(strategy.provenance.id.clone()).or_default();
            *count += 1;
            let name = named(&strategy.provenance.id, *count);
            let state_name = state_name(&name, chosen);
            let mut shadow = Shadow {
                name,
                state_name,
                standing: Standing::Dropped(String::new()),
                spent: TimeSpent::default(),
            };
            match plugins.get(&dropped(&shadow.state_name)) {
                Some(reason) => {
                    let reason = String::from_utf8_lossy(&reason.bytes).into_owned();
                    shadow.standing = Standing::Dropped(reason);
                }
                None => {
                    let rider = Rider::start(strategy, config, engine, plugins.get(&shadow.state_name));
                    shadow.begin(rider, chosen, step, logs)?;
                }
            }
            all.push(shadow);
        }
        Ok(Shadows(all))
    }

    /// Asks all of them what the run's strategy has just been asked.
    ///
    /// # Errors
    /// As for [`start`](Shadows::start); so below.
    pub(super) fn ask(
        &mut self,
        context: &StepContext<'_>,
        events: &[Event],
        course: &Course,
        moment: Moment,
        logs: &mut Logs,
    ) -> Result<(), TrainError> {
        self.each(moment.step, logs, |rider| {
            let restored = rider.restored;
            let events = events.iter().filter(|event| restored || !matches!(event, Event::Resumed { .. }));
            let asked = rider.onlooker.ask(context, events, course, moment)?;
            Ok(rider.would_do(asked))
        })
    }

    /// Tells those that have asked for the same probe what came of it.
    pub(super) fn tell_probed(
        &mut self,
        probed: &Probed,
        requests: &[Action],
        course: &Course,
        moment: Moment,
        logs: &mut Logs,
    ) -> Result<(), TrainError> {
        self.each(moment.step, logs, |rider| {
            let same = probe_of(&rider.asked).is_some_and(|probe| Some(probe) == probe_of(requests));
            if !same {
                return Ok(None);
            }
            let asked = rider.onlooker.tell_probed(probed, course, moment)?;
            Ok(rider.would_do(asked))
        })
    }

    /// Shows the receipt of an edit to those that have asked for the same.
    pub(super) fn tell_edited(
        &mut self,
        receipt: &GrowthReceipt,
        requests: &[Action],
        logs: &mut Logs,
    ) -> Result<(), TrainError> {
        self.each(Step(receipt.step), logs, |rider| {
            if !same_edits(&rider.asked, requests) {
                return Ok(None);
            }
            let rejected = rider.onlooker.judge(receipt)?;
            Ok(Some(ShadowSaid::Judged { rejected }))
        })
    }

    /// What a checkpoint holds of them: the state of each, or that it was dropped.
    pub(super) fn saved(&mut self, step: Step, logs: &mut Logs) -> Result<SavedPlugins, TrainError> {
        let mut all = SavedPlugins::new();
        for shadow in &mut self.0 {
            if let Standing::Rides(rider) = &mut shadow.standing {
                match rider.onlooker.strategy.ask("save", |strategy| strategy.save()) {
                    Ok(saved) => drop(all.insert(shadow.state_name.clone(), saved)),
                    Err(fault) => shadow.drop_out(&fault, step, logs)?,
                }
            }
            if let Standing::Dropped(reason) = &shadow.standing {
                let bytes = reason.clone().into_bytes();
                all.insert(dropped(&shadow.state_name), Saved { version: 0, bytes });
            }
        }
        Ok(all)
    }

    /// What the calls of each have taken since this was last asked, by the name that the ledger has for it.
    pub(super) fn take_times_spent(&mut self) -> Vec<(String, TimeSpent)> {
        let of = |shadow: &mut Shadow| {
            let mut spent = std::mem::take(&mut shadow.spent);
            if let Standing::Rides(rider) = &mut shadow.standing {
                spent += rider.onlooker.strategy.take_time_spent();
            }
            (format!("{} (shadow)", shadow.name), spent)
        };
        self.0.iter_mut().map(of).collect()
    }

    /// Those that have failed, and how.
    pub(super) fn dropped(&self) -> Vec<String> {
        let told = |shadow: &Shadow| match &shadow.standing {
            Standing::Dropped(reason) => Some(format!("the shadow {}: {reason}", shadow.name)),
            Standing::Rides(_) => None,
        };
        self.0.iter().filter_map(told).collect()
    }

    fn each(
        &mut self,
        step: Step,
        logs: &mut Logs,
        mut work: impl FnMut(&mut Rider) -> Result<Option<ShadowSaid>, PluginError>,
    ) -> Result<(), TrainError> {
        for shadow in &mut self.0 {
            let Standing::Rides(rider) = &mut shadow.standing else { continue };
            match work(rider) {
                Ok(said) => shadow.log(said, step, logs)?,
                Err(fault) => shadow.drop_out(&fault, step, logs)?,
            }
        }
        Ok(())
    }
}

impl Rider {
    fn start(
        strategy: Loaded<dyn GrowthStrategy>,
        config: &RunConfig,
        engine: &EngineInfo,
        saved: Option<&Saved>,
    ) -> Result<Rider, PluginError> {
        let mut onlooker = Onlooker::new(strategy, config, Some(engine))?;
        if let Some(saved) = saved {
            onlooker.strategy.ask("restore", |strategy| strategy.restore(saved))?;
        }
        Ok(Rider { onlooker, asked: Vec::new(), restored: saved.is_some() })
    }

    fn began(&self, config: &serde_json::Value) -> ShadowSaid {
        let provenance = &self.onlooker.strategy.provenance;
        ShadowSaid::Began {
            version: provenance.version.clone(),
            sha256: provenance.sha256.clone(),
            config: config.clone(),
            plan: self.onlooker.plan.clone(),
        }
    }

    fn would_do(&mut self, asked: Asked) -> Option<ShadowSaid> {
        let silent = asked.is_silent();
        let Asked { requests, refused, gave_up } = asked;
        self.asked.clone_from(&requests);
        (!silent).then_some(ShadowSaid::Asked { requests, refused, gave_up })
    }
}

impl Shadow {
    fn begin(
        &mut self,
        rider: Result<Rider, PluginError>,
        config: &serde_json::Value,
        step: Step,
        logs: &mut Logs,
    ) -> Result<(), TrainError> {
        match rider {
            Ok(rider) => {
                let said = (!rider.restored).then(|| rider.began(config));
                self.standing = Standing::Rides(Box::new(rider));
                self.log(said, step, logs)
            }
            Err(fault) => self.drop_out(&fault, step, logs),
        }
    }

    fn log(&self, said: Option<ShadowSaid>, step: Step, logs: &mut Logs) -> Result<(), TrainError> {
        match (said, &mut logs.shadows) {
            (Some(said), Some(log)) => log.add(&ShadowRecord { step, shadow: self.name.clone(), said }),
            _ => Ok(()),
        }
    }

    fn drop_out(&mut self, fault: &PluginError, step: Step, logs: &mut Logs) -> Result<(), TrainError> {
        tracing::warn!(
            "before step {step} the shadow {}: {fault}; it is dropped, and the run goes on",
            self.name
        );
        if let Standing::Rides(rider) = &mut self.standing {
            self.spent += rider.onlooker.strategy.take_time_spent();
        }
        let reason = fault.to_string();
        self.standing = Standing::Dropped(reason.clone());
        self.log(Some(ShadowSaid::Dropped { reason }), step, logs)
    }
}

/// The second of an id is told from the first.
fn named(id: &str, count: usize) -> String {
    if count == 1 { id.to_owned() } else { format!("{id}#{count}") }
}

fn state_name(name: &str, config: &serde_json::Value) -> String {
    let hash = format!("{:x}", Sha256::digest(format!("{name} {config}")));
    format!("shadow-{}", &hash[..DIGITS])
}

/// The name under which a checkpoint holds that it was dropped, and why.
fn dropped(state_name: &str) -> String {
    format!("dropped-{state_name}")
}

/// Asks a shadow for its plan before anything is trained, so that one that refuses the run is told of at once.
///
/// # Errors
/// It refuses the run, or fails.
pub fn check_shadow(
    strategy: Loaded<dyn GrowthStrategy>,
    config: &RunConfig,
    engine: &EngineInfo,
) -> Result<(), TrainError> {
    Ok(Onlooker::new(strategy, config, Some(engine)).map(|_| ())?)
}
