//! A recorded run's strategy, or another one, asked once more about all that the run has been through. Nothing is trained:
//! the run goes on as it did, whatever the strategy says now.

use engine::Step;
use plugin_host::api::{Action, GrowthStrategy};
use plugin_host::{Loaded, PluginError, Provenance};
use serde::Serialize;

use crate::TrainError;
use crate::course::boundary::probe_of;
use crate::folder::records::RefusedRequest;
use crate::onlooker::recorded::{Decided, Playback, RecordedRun};
use crate::onlooker::{Asked, Onlooker, same_deeds, same_edits};

/// What a strategy would have asked for in a recorded run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// The run.
    pub run: String,
    /// The strategy that was asked.
    pub strategy: Provenance,
    /// Before how many steps.
    pub asked: u64,
    /// Before how many of them it decides as the run did.
    pub alike: u64,
    /// Whether it decides as the run did throughout, where it begins included.
    pub is_same: bool,
    /// Blocks at step 0: the run's, and what this strategy's plan says.
    pub initial_depths: [usize; 2],
    /// Whether the plan begins as the run did, in depth and in width.
    pub begins_alike: bool,
    /// Every step before which the run or the strategy asks for something.
    pub decisions: Vec<ReplayedDecision>,
    /// What it could not be told, since no log keeps it.
    pub not_told: Vec<String>,
    /// How it failed, where it did; it was asked no more then.
    pub failed: Option<String>,
}

/// What a run asked for before a step, and what the strategy would.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayedDecision {
    /// The coming step.
    pub step: Step,
    /// Whether it is the same, labels of phases and numbers for plots aside.
    pub is_same: bool,
    /// What the run asked for, after a probe's outcome included.
    pub run: Vec<Action>,
    /// What the strategy asks for.
    pub strategy: Vec<Action>,
    /// What it would have been refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<RefusedRequest>,
    /// What it answers where it insists on what is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gave_up: Option<String>,
    /// Whether it would take back the edit that the run made and it asks for too; `None` where there is no such.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takes_back: Option<bool>,
}

impl Replay {
    /// The first decision that is not the run's.
    pub fn first_difference(&self) -> Option<&ReplayedDecision> {
        self.decisions.iter().find(|decision| !decision.is_same)
    }
}

/// Asks a strategy about a recorded run.
///
/// # Errors
/// It refuses the run, or the log contradicts itself. A strategy that fails later is told of in the answer.
pub fn replay(run: &RecordedRun, strategy: Loaded<dyn GrowthStrategy>) -> Result<Replay, TrainError> {
    let provenance = strategy.provenance.clone();
    let mut onlooker = Onlooker::new(strategy, &run.file.config, None)?;
    let (planned, plan) = (&run.plan, &onlooker.plan);
    let begins_alike = (planned.initial_depth, planned.widths) == (plan.initial_depth, plan.widths);
    let mut replay = Replay {
        run: run.file.config.name(),
        strategy: provenance,
        asked: 0,
        alike: 0,
        is_same: begins_alike,
        initial_depths: [planned.initial_depth, plan.initial_depth],
        begins_alike,
        decisions: Vec::new(),
        not_told: not_told(&onlooker),
        failed: None,
    };
    let mut playback = Playback::new(run)?;
    while playback.arrive()? {
        let decided = run.decided(playback.step);
        let (context, event) = (playback.context(), playback.event());
        let asked = onlooker.ask(&context, event.iter(), &playback.course, playback.moment());
        playback.try_out()?;
        match asked.and_then(|asked| answer(&mut onlooker, &playback, &decided, asked)) {
            Ok(decision) => replay.enter(decision),
            Err(fault) => {
                replay.failed = Some(format!("before step {}: {fault}", playback.step));
                replay.is_same = false;
                break;
            }
        }
        if playback.is_at_end() {
            break;
        }
        playback.go_on()?;
    }
    Ok(replay)
}

fn not_told(onlooker: &Onlooker) -> Vec<String> {
    let measures = onlooker.plan.measure.is_some();
    let measured = measures.then(|| "what it wants to have measured in steps".to_owned());
    measured.into_iter().collect()
}

impl Replay {
    fn enter(&mut self, decision: ReplayedDecision) {
        self.asked += 1;
        self.alike += u64::from(decision.is_same);
        self.is_same &= decision.is_same;
        let silent = decision.run.is_empty() && decision.strategy.is_empty() && decision.refused.is_empty();
        if !silent || !decision.is_same {
            self.decisions.push(decision);
        }
    }
}

/// Tells the strategy what came of its requests, where the run made them too, and holds it against the run.
fn answer(
    onlooker: &mut Onlooker,
    playback: &Playback<'_>,
    decided: &Decided<'_>,
    mut asked: Asked,
) -> Result<ReplayedDecision, PluginError> {
    let step = playback.step;
    let mut is_same = same_deeds(&asked.requests, decided.requests) && asked.gave_up.is_none();
    let (mut strategy, mut refused) = (asked.requests.clone(), asked.refused.clone());
    let probed = decided.probed(step).filter(|(probe, _)| probe_of(&asked.requests) == Some(*probe));
    if let Some((_, probed)) = probed {
        let gave_up = asked.gave_up;
        asked = onlooker.tell_probed(&probed, &playback.course, playback.moment())?;
        is_same &= same_deeds(&asked.requests, decided.after_probe) && asked.gave_up.is_none();
        strategy.extend(asked.requests.iter().cloned());
        refused.append(&mut asked.refused);
        asked.gave_up = gave_up.or(asked.gave_up);
    }
    let takes_back = judged(onlooker, &asked, decided)?;
    is_same &= takes_back.is_none_or(|takes_back| takes_back == decided.is_rejected);
    let (run, gave_up) = ([decided.requests, decided.after_probe].concat(), asked.gave_up);
    Ok(ReplayedDecision { step, is_same, run, strategy, refused, gave_up, takes_back })
}

fn judged(
    onlooker: &mut Onlooker,
    asked: &Asked,
    decided: &Decided<'_>,
) -> Result<Option<bool>, PluginError> {
    let receipt = decided.receipt.filter(|_| same_edits(&asked.requests, decided.last_requests()));
    receipt.map(|receipt| Ok(onlooker.judge(receipt)?.is_some())).transpose()
}
