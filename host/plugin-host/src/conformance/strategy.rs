//! Questions to a strategy: it is driven over simulated runs, interrupted, refused, and shown extremes.

use std::time::{Duration, Instant};

use sapwood_plugin::testing::{SimulatedRun, Transcript};
use sapwood_plugin::{
    Action, ActionSink, Actions, Block, Error, Evaluation, Event, GrowthStrategy, LayerId, LossPoint, Plan,
    Pushed, Result, Saved, StepContext,
};

use super::process::{memory_over, prints_nothing, starts_no_thread, wrote_nothing_here};
use super::subject::{survived, while_doing};
use super::{Answer, Question, Said, Subject, noted, passed};

/// A call may take that long at the median.
const MOST_MICROSECONDS: u128 = 1000;

pub(super) const QUESTIONS: &[Question] = &[
    Question { name: "plan-is-one-that-a-host-takes", asks: "plans within bounds", ask: plan_is_good },
    Question { name: "plan-repeats", asks: "plans the same twice", ask: plan_repeats },
    Question {
        name: "models-of-any-size-are-survived",
        asks: "plans or refuses 1 to 10^6 layers",
        ask: sizes,
    },
    Question {
        name: "budgets-of-any-length-are-survived",
        asks: "plans or refuses 0 to 2^63 steps",
        ask: budgets,
    },
    Question { name: "run-goes-through", asks: "decides from the first step to the last", ask: goes_through },
    Question { name: "compute-budget-goes-through", asks: "does so when FLOPs end the run", ask: compute },
    Question { name: "requests-are-ones-that-a-host-takes", asks: "asks for nothing absurd", ask: taken },
    Question { name: "same-answers-again", asks: "decides the same in the same run", ask: repeats },
    Question { name: "same-answers-in-another-process", asks: "does so in another process", ask: digest },
    Question { name: "instances-are-separate", asks: "shares nothing between instances", ask: separate },
    Question { name: "moves-between-threads", asks: "works on any thread", ask: threads },
    Question { name: "saving-changes-nothing", asks: "goes on as if it had not been saved", ask: saving },
    Question { name: "goes-on-from-a-saved-state", asks: "loses no state", ask: goes_on },
    Question { name: "state-comes-back-as-it-was", asks: "saves what it restored", ask: comes_back },
    Question {
        name: "other-state-version-is-refused",
        asks: "reads no other version's state",
        ask: other_version,
    },
    Question { name: "damaged-state-is-survived", asks: "survives damaged states", ask: damaged },
    Question {
        name: "refusals-are-survived",
        asks: "survives a host that refuses everything",
        ask: refusing,
    },
    Question {
        name: "unknown-events-are-survived",
        asks: "survives events of later hosts",
        ask: unknown_event,
    },
    Question { name: "spikes-are-survived", asks: "survives any loss", ask: spikes },
    Question {
        name: "long-histories-are-survived",
        asks: "survives a thousand blocks and losses",
        ask: long,
    },
    Question { name: "time-per-call", asks: "answers within a millisecond at the median", ask: time },
    Question { name: "memory-does-not-grow", asks: "keeps its memory", ask: memory },
    Question { name: "prints-nothing", asks: "prints nothing", ask: silent },
    Question { name: "writes-no-file", asks: "leaves no file behind", ask: no_file },
    Question { name: "starts-no-thread", asks: "starts no thread", ask: no_thread },
];

/// Twelve layers, which most things divide, and 120 steps.
pub(super) fn usual_run() -> SimulatedRun {
    SimulatedRun::new(12, 120)
}

fn driven(subject: &Subject) -> std::result::Result<Transcript, String> {
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    usual_run().drive(&mut *strategy).map_err(while_doing("a run of 12 layers and 120 steps"))
}

fn planned(strategy: &mut dyn GrowthStrategy) -> std::result::Result<Plan, String> {
    strategy.plan(&usual_run().facts).map_err(while_doing("plan"))
}

fn plan_is_good(subject: &Subject) -> Answer {
    let plan = planned(&mut *subject.strategy().map_err(while_doing("new"))?)?;
    let most = 8 * usual_run().facts.model.layers;
    if plan.initial_depth > plan.deepest || plan.deepest > most {
        let Plan { initial_depth, deepest, .. } = plan;
        return Err(format!(
            "starts with {initial_depth} and grows to {deepest} blocks; a host allows {most}"
        ));
    }
    let good =
        |slot: &String| !slot.is_empty() && slot.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if let Some(slot) = plan.slots.iter().find(|slot| !good(slot)) {
        return Err(format!("the slot `{slot}` is no key: letters, digits and _"));
    }
    if let Some(phase) = plan.phases.iter().find(|phase| phase.label.is_empty() || phase.depth > plan.deepest)
    {
        return Err(format!("the phase {phase:?} has no label or is too deep"));
    }
    noted(format!("{} to {} blocks", plan.initial_depth, plan.deepest))
}

fn plan_repeats(subject: &Subject) -> Answer {
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    let (first, second) = (planned(&mut *strategy)?, planned(&mut *strategy)?);
    let other = planned(&mut *subject.strategy().map_err(while_doing("new"))?)?;
    if first == second && first == other { passed() } else { Err("plans differ".into()) }
}

fn sizes(subject: &Subject) -> Answer {
    for layers in [1, 2, 7, 96, 10_000, 1_000_000] {
        let mut strategy = subject.strategy().map_err(while_doing("new"))?;
        let run = SimulatedRun::new(layers, 40);
        survived(&format!("{layers} layers"), strategy.plan(&run.facts))?;
        if layers <= 96 {
            survived(&format!("a run of {layers} layers"), run.drive(&mut *strategy))?;
        }
    }
    passed()
}

fn budgets(subject: &Subject) -> Answer {
    for steps in [0, 1, 2, 3, 1 << 32, 1 << 63] {
        let mut strategy = subject.strategy().map_err(while_doing("new"))?;
        let run = SimulatedRun::new(12, steps);
        survived(&format!("{steps} steps"), strategy.plan(&run.facts))?;
        if steps <= 3 {
            survived(&format!("a run of {steps} steps"), run.drive(&mut *strategy))?;
        }
    }
    passed()
}

fn goes_through(subject: &Subject) -> Answer {
    let transcript = driven(subject)?;
    noted(format!("{} decisions over {} steps", transcript.decisions.len(), transcript.depths.len()))
}

fn compute(subject: &Subject) -> Answer {
    let mut run = usual_run();
    let whole = 6.0 * (272.0 * 32.0 + 12.0 * 32.0 * 32.0 * 12.0) * run.facts.tokens_per_step as f64;
    run.facts.budget.flops = Some(whole * run.facts.budget.reference_steps as f64);
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    let transcript = run.drive(&mut *strategy).map_err(while_doing("a run that FLOPs end"))?;
    noted(format!("{} steps", transcript.depths.len()))
}

fn taken(subject: &Subject) -> Answer {
    let transcript = driven(subject)?;
    match transcript.refusals().next() {
        Some((step, action, reason)) => Err(format!("before step {step}: {action:?}: {reason}")),
        None => passed(),
    }
}

fn repeats(subject: &Subject) -> Answer {
    let first = driven(subject)?;
    for _ in 0..3 {
        let again = driven(subject)?;
        if format!("{first:?}") != format!("{again:?}") {
            return Err(first_difference(&first, &again));
        }
    }
    passed()
}

fn digest(subject: &Subject) -> Answer {
    Ok(Said { digest: format!("{:?}", driven(subject)?), ..Said::default() })
}

fn separate(subject: &Subject) -> Answer {
    let alone = driven(subject)?;
    let mut other = subject.strategy().map_err(while_doing("new"))?;
    // Another run in between, and half of one, must not be seen by the next.
    survived("another run", SimulatedRun::new(6, 50).drive(&mut *other))?;
    let again = driven(subject)?;
    if format!("{alone:?}") == format!("{again:?}") {
        passed()
    } else {
        Err(first_difference(&alone, &again))
    }
}

fn threads(subject: &Subject) -> Answer {
    let here = driven(subject)?;
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    planned(&mut *strategy)?;
    let elsewhere = std::thread::spawn(move || usual_run().drive(&mut *strategy));
    let there = elsewhere.join().map_err(|_| "panics on another thread".to_owned())?;
    let there = there.map_err(while_doing("on another thread"))?;
    if format!("{here:?}") == format!("{there:?}") { passed() } else { Err(first_difference(&here, &there)) }
}

/// Saves before every call.
struct SavedAtEachStep(Box<dyn GrowthStrategy>);

impl GrowthStrategy for SavedAtEachStep {
    fn plan(&mut self, run: &sapwood_plugin::RunFacts) -> Result<Plan> {
        self.0.plan(run)
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        self.0.save()?;
        self.0.before_step(context, actions)
    }

    fn on_event(&mut self, event: &Event, actions: &mut Actions<'_>) -> Result<()> {
        self.0.on_event(event, actions)
    }

    fn save(&self) -> Result<Saved> {
        self.0.save()
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.0.restore(saved)
    }
}

fn saving(subject: &Subject) -> Answer {
    let unsaved = driven(subject)?;
    let strategy = subject.strategy().map_err(while_doing("new"))?;
    let saved = usual_run().drive(&mut SavedAtEachStep(strategy)).map_err(while_doing("with saving"))?;
    if format!("{unsaved:?}") == format!("{saved:?}") {
        passed()
    } else {
        Err(first_difference(&unsaved, &saved))
    }
}

fn goes_on(subject: &Subject) -> Answer {
    let whole = driven(subject)?;
    for step in (0..120).step_by(7).chain([1, 2, 3, 119]) {
        let resumed = usual_run().drive_interrupted(|| subject.strategy(), step);
        let resumed = resumed.map_err(|error| format!("interrupted before step {step}: {error}"))?;
        if format!("{whole:?}") != format!("{resumed:?}") {
            return Err(format!("interrupted before step {step}: {}", first_difference(&whole, &resumed)));
        }
    }
    passed()
}

/// A strategy that has decided over half of a run.
fn half_way(subject: &Subject) -> std::result::Result<Box<dyn GrowthStrategy>, String> {
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    let run = usual_run();
    let half = SimulatedRun { facts: run.facts.clone(), ..SimulatedRun::new(12, 60) };
    half.drive(&mut *strategy).map_err(while_doing("a run"))?;
    Ok(strategy)
}

fn comes_back(subject: &Subject) -> Answer {
    let saved = half_way(subject)?.save().map_err(while_doing("save"))?;
    let mut fresh = subject.strategy().map_err(while_doing("new"))?;
    planned(&mut *fresh)?;
    fresh.restore(&saved).map_err(while_doing("restore"))?;
    let again = fresh.save().map_err(while_doing("save after restore"))?;
    if saved == again {
        noted(format!("{} bytes", saved.bytes.len()))
    } else {
        Err("saves something else".into())
    }
}

fn other_version(subject: &Subject) -> Answer {
    let saved = half_way(subject)?.save().map_err(while_doing("save"))?;
    let other = Saved { version: saved.version.wrapping_add(1000), ..saved };
    let mut fresh = subject.strategy().map_err(while_doing("new"))?;
    planned(&mut *fresh)?;
    match fresh.restore(&other) {
        Ok(()) => Err(format!("takes a state of version {}", other.version)),
        Err(error) if error.panicked().is_some() => Err(error.to_string()),
        Err(_) => passed(),
    }
}

fn damaged(subject: &Subject) -> Answer {
    let saved = half_way(subject)?.save().map_err(while_doing("save"))?;
    let Saved { version, bytes } = saved;
    let cut = bytes[..bytes.len() / 2].to_vec();
    for (what, bytes) in [
        ("no byte", vec![]),
        ("half of it", cut),
        ("noise", vec![0xa5; 64]),
        ("a megabyte", vec![0; 1 << 20]),
    ] {
        let mut fresh = subject.strategy().map_err(while_doing("new"))?;
        planned(&mut *fresh)?;
        let restored = survived(&format!("a state of {what}"), fresh.restore(&Saved { version, bytes }))?;
        if restored.is_some() && what == "noise" {
            return Err("takes noise for its state".into());
        }
    }
    passed()
}

/// Refuses everything.
struct Refusing;

impl ActionSink for Refusing {
    fn push(&mut self, _: Action) -> Result<Pushed> {
        Err(Error::new("this host refuses everything"))
    }
}

fn blocks(count: u64) -> Vec<Block> {
    (0..count).map(|id| Block { id: LayerId(id), born_at_step: 0, trains: 1 }).collect()
}

fn context<'a>(step: u64, blocks: &'a [Block]) -> StepContext<'a> {
    StepContext {
        step,
        tokens: step.saturating_mul(128),
        flops: step as f64 * 1e6,
        learning_rate: 1e-3,
        progress: (step as f64 / 120.0).min(1.0),
        phase: "phase",
        blocks,
        losses: &[],
        evaluations: &[],
    }
}

fn refusing(subject: &Subject) -> Answer {
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    let plan = planned(&mut *strategy)?;
    let blocks = blocks(plan.initial_depth as u64);
    for step in 0..120 {
        let asked = strategy.before_step(&context(step, &blocks), &mut Actions::new(&mut Refusing));
        survived(&format!("refused before step {step}"), asked)?;
        let event = Event::Evaluated { step, loss_nats_per_token: 3.0 };
        survived("an event", strategy.on_event(&event, &mut Actions::new(&mut Refusing)))?;
    }
    passed()
}

fn unknown_event(subject: &Subject) -> Answer {
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    planned(&mut *strategy)?;
    let told = strategy.on_event(&Event::Unknown, &mut Actions::new(&mut Refusing));
    told.map_err(while_doing("an event that it does not know"))?;
    let resumed = Event::Resumed { step: 0 };
    strategy.on_event(&resumed, &mut Actions::new(&mut Refusing)).map_err(while_doing("`resumed`"))?;
    passed()
}

fn spikes(subject: &Subject) -> Answer {
    for loss in [0.0, -1.0, 1e-300, 1e30, 1e300, 2.5] {
        let run = SimulatedRun { loss_from_step: Some((20, loss)), ..usual_run() };
        let mut strategy = subject.strategy().map_err(while_doing("new"))?;
        let transcript = survived(&format!("a loss of {loss}"), run.drive(&mut *strategy))?;
        if let Some((step, action, reason)) = transcript.iter().flat_map(Transcript::refusals).next() {
            return Err(format!("at a loss of {loss}, before step {step}: {action:?}: {reason}"));
        }
    }
    passed()
}

/// Longest call with a long history, and how often it is tried.
const LONGEST_CALL: Duration = Duration::from_millis(100);
const TRIES: usize = 5;

fn long(subject: &Subject) -> Answer {
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    planned(&mut *strategy)?;
    let blocks = blocks(1000);
    let losses: Vec<LossPoint> = (0..1024).map(|step| LossPoint { step, loss_nats_per_token: 3.0 }).collect();
    let evaluations: Vec<Evaluation> =
        (0..1024).map(|step| Evaluation { step, tokens: step, loss_nats_per_token: 3.0 }).collect();
    for step in [1025, 1 << 32, 1 << 52, u64::MAX - 1, u64::MAX] {
        let context = StepContext {
            losses: &losses,
            evaluations: &evaluations,
            flops: 1e30,
            progress: 1.0,
            ..context(step, &blocks)
        };
        // A machine that is busy with something else is slow once, a strategy every time.
        let mut fastest = Duration::MAX;
        for _ in 0..TRIES {
            let began = Instant::now();
            let asked = strategy.before_step(&context, &mut Actions::new(&mut Refusing));
            survived(&format!("step {step} of a thousand blocks"), asked)?;
            fastest = fastest.min(began.elapsed());
            if fastest <= LONGEST_CALL {
                break;
            }
        }
        if fastest > LONGEST_CALL {
            return Err(format!("takes {} ms at step {step}", fastest.as_millis()));
        }
    }
    passed()
}

/// Most strategies decide nothing at most steps: this is what a run pays at each of them.
fn time(subject: &Subject) -> Answer {
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    let plan = planned(&mut *strategy)?;
    let blocks = blocks(plan.initial_depth as u64);
    let mut times: Vec<u128> = (0..2000)
        .map(|step| {
            let context = context(step, &blocks);
            let began = Instant::now();
            let _ = strategy.before_step(&context, &mut Actions::new(&mut Refusing));
            began.elapsed().as_nanos()
        })
        .collect();
    times.sort_unstable();
    let median = times[times.len() / 2];
    let note = format!("{:.2} µs at the median", median as f64 / 1000.0);
    if median > 1000 * MOST_MICROSECONDS { Err(note) } else { noted(note) }
}

fn memory(subject: &Subject) -> Answer {
    let mut strategy = subject.strategy().map_err(while_doing("new"))?;
    let plan = planned(&mut *strategy)?;
    let blocks = blocks(plan.initial_depth as u64);
    memory_over(100_000, |step| {
        // Past the run's end, where nothing is due any more.
        let _ = strategy.before_step(&context(1000 + step, &blocks), &mut Actions::new(&mut Refusing));
        Ok(())
    })
}

fn silent(subject: &Subject) -> Answer {
    driven(subject)?;
    prints_nothing(subject, true)
}

fn no_file(subject: &Subject) -> Answer {
    driven(subject)?;
    wrote_nothing_here()
}

fn no_thread(subject: &Subject) -> Answer {
    starts_no_thread(|| driven(subject).map(|_| ()))
}

/// Where two transcripts part, in words.
fn first_difference(one: &Transcript, other: &Transcript) -> String {
    let (one, other) = (one.to_string(), other.to_string());
    let mut lines = one.lines().zip(other.lines());
    match lines.find(|(one, other)| one != other) {
        Some((one, other)) => format!("once `{one}`, once `{other}`"),
        None => format!("{} lines of decisions, then {}", one.lines().count(), other.lines().count()),
    }
}
