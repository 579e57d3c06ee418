//! A strategy that is asked about a run which is not its own: what it would request is checked as the run's would be, and
//! never carried out. Shadows are that while a run is under way (`run/shadows.rs`), replay is it afterwards
//! (`replay.rs`).
//!
//! It is shown the very contexts of the run. It is told what the run is told, but for what came of requests: a receipt or a
//! probe's losses speak of an edit that it made itself, so it hears of those that it has asked for as well.

pub(crate) mod recorded;
pub(crate) mod replay;

use std::collections::BTreeSet;

use engine::EngineInfo;
use plugin_host::api::{
    Action, Actions, Error, Event, GrowthReceipt, GrowthStrategy, Plan, Probed, RunFacts, StepContext,
};
use plugin_host::{Loaded, PluginError};

use crate::RunConfig;
use crate::course::boundary::{Boundary, Judgement, Moment};
use crate::course::shown::{run_facts, strategy_key};
use crate::course::{Course, Rules};
use crate::folder::records::RefusedRequest;
use crate::growth;

/// A strategy that is asked and not obeyed.
pub(crate) struct Onlooker {
    /// The strategy.
    pub strategy: Loaded<dyn GrowthStrategy>,
    /// What it says that its run would look like.
    pub plan: Plan,
    rules: Rules,
}

/// What it would do.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Asked {
    /// Its requests that the run would take, in order.
    pub requests: Vec<Action>,
    /// Those that it would refuse.
    pub refused: Vec<RefusedRequest>,
    /// What it answers where it insists on one that is refused. Its own run would end with that.
    pub gave_up: Option<String>,
}

impl Asked {
    /// Whether it said nothing.
    pub(crate) fn is_silent(&self) -> bool {
        self.requests.is_empty() && self.refused.is_empty()
    }

    /// A refusal is no fault here: the run's course is not the one that it would have taken.
    fn of(boundary: Boundary<'_>, answer: Result<(), Error>) -> Result<Asked, Error> {
        let Boundary { taken, refused, .. } = boundary;
        let gave_up = match answer {
            Ok(()) => None,
            Err(error) if error.panicked().is_none() && !refused.is_empty() => Some(error.to_string()),
            Err(error) => return Err(error),
        };
        let refused = refused.into_iter().map(|(request, reason)| RefusedRequest { request, reason });
        Ok(Asked { requests: taken, refused: refused.collect(), gave_up })
    }
}

impl Onlooker {
    /// Asks it for its plan. What it may request is what that announces, on this model and with those of its slots that the
    /// arm fills.
    ///
    /// # Errors
    /// It refuses the run, or fails.
    pub(crate) fn new(
        mut strategy: Loaded<dyn GrowthStrategy>,
        config: &RunConfig,
        engine: Option<&EngineInfo>,
    ) -> Result<Onlooker, PluginError> {
        let key = strategy_key(config, &strategy.provenance.id);
        let facts = RunFacts { key, ..run_facts(config) };
        let plan = strategy.call(|strategy| strategy.plan(&facts));
        let plan = plan.map_err(|error| refused(&strategy, &error))?;
        let filled = plan.slots.iter().filter(|slot| config.initializers.contains_key(*slot));
        let slots: BTreeSet<String> = filled.cloned().collect();
        let mut rules = Rules::new(config, &plan, slots).map_err(|error| strategy.fault("plan", &error))?;
        rules.executes &= !engine.is_some_and(|engine| engine.plain_steps_only);
        Ok(Onlooker { strategy, plan, rules })
    }

    /// Asks it before a step, after telling it what has happened. What was measured is told where its plan wants any.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn ask<'e>(
        &mut self,
        context: &StepContext<'_>,
        events: impl Iterator<Item = &'e Event>,
        course: &Course,
        moment: Moment,
    ) -> Result<Asked, PluginError> {
        let Onlooker { strategy, plan, rules } = self;
        let mut boundary = Boundary::new(course, rules, moment);
        let mut actions = Actions::new(&mut boundary);
        let mut events =
            events.filter(|event| plan.measure.is_some() || !matches!(event, Event::Measured(_)));
        let mut call = "on_event";
        let answer = events
            .try_for_each(|event| strategy.call(|strategy| strategy.on_event(event, &mut actions)))
            .and_then(|()| {
                call = "before_step";
                strategy.call(|strategy| strategy.before_step(context, &mut actions))
            });
        Asked::of(boundary, answer).map_err(|error| strategy.fault(call, &error))
    }

    /// Tells it what came of a probe that it has asked for too, and hears what it asks for then.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn tell_probed(
        &mut self,
        probed: &Probed,
        course: &Course,
        moment: Moment,
    ) -> Result<Asked, PluginError> {
        let Onlooker { strategy, rules, .. } = self;
        let mut boundary = Boundary::new(course, rules, Moment { after_probe: true, ..moment });
        let mut actions = Actions::new(&mut boundary);
        let event = Event::Probed(probed.clone());
        let answer = strategy.call(|strategy| strategy.on_event(&event, &mut actions));
        Asked::of(boundary, answer).map_err(|error| strategy.fault("on_event", &error))
    }

    /// Shows it the receipt of edits that it has asked for too; answers why it would take them back, if it would.
    ///
    /// # Errors
    /// It fails.
    pub(crate) fn judge(&mut self, receipt: &GrowthReceipt) -> Result<Option<String>, PluginError> {
        let mut judgement = Judgement::default();
        let event = Event::Edited(receipt.clone());
        self.strategy
            .ask("on_event", |strategy| strategy.on_event(&event, &mut Actions::new(&mut judgement)))?;
        Ok(judgement.rejected)
    }
}

fn refused(strategy: &Loaded<dyn GrowthStrategy>, error: &Error) -> PluginError {
    let Some(field) = error.field() else { return strategy.fault("plan", error) };
    let (kind, id) = (strategy.provenance.kind, strategy.provenance.id.clone());
    PluginError::BadConfig { kind, id, field: field.to_owned(), message: error.message().to_owned() }
}

/// Whether both ask for the same: labels of phases and numbers for plots change nothing, and are left aside.
pub(crate) fn same_deeds(one: &[Action], other: &[Action]) -> bool {
    let is_deed = |request: &&Action| !matches!(request, Action::Phase(_) | Action::Metric { .. });
    one.iter().filter(is_deed).eq(other.iter().filter(is_deed))
}

/// Whether both edit the model, and in the same way: labels, rates and numbers beside that do not matter to a receipt.
pub(crate) fn same_edits(one: &[Action], other: &[Action]) -> bool {
    let edits = |requests: &'_ [Action]| -> Vec<Action> {
        let edits = requests.iter().filter(|request| growth::changes_tensors(std::slice::from_ref(request)));
        edits.cloned().collect()
    };
    let ours = edits(one);
    !ours.is_empty() && ours == edits(other)
}
