//! `--fuzz`: what no host would tell a plugin, at random, for as long as is asked. An error is a good answer; a
//! panic, a crash or a hang is not.
//!
//! Each case is a seed, so that what was found is found again: `--fuzz 0 --seed N`.

use std::time::{Duration, Instant};

use sapwood_plugin::testing::{Growth, MadeUpRun, SmallModel};
use sapwood_plugin::{
    Action, ActionSink, Actions, Block, Budget, Error, Evaluation, Event, Key, Kind, LayerId, LossPoint,
    Measured, MeasuredBlock, MeasuredTensor, ModelFacts, Pushed, Random, Result, RunEvent, RunFacts, Saved,
    StepContext,
};

use super::subject::{Subject, survived};
use super::{Answer, Question, noted};

/// Asked when the examiner fuzzes.
pub(super) const QUESTION: Question =
    Question { name: "survives-fuzzing", asks: "survives whatever it is told", ask };

/// How long, and from which seed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fuzz {
    /// Seconds; at least one case is tried.
    pub seconds: u64,
    /// The first case.
    pub seed: u64,
}

/// Where the case under way is written, for whoever finds the process gone.
pub(super) const CASE_FILE: &str = "case";
/// Most requests of one call that are answered; a plugin that goes on is one that never ends.
const MOST_REQUESTS: usize = 100_000;
/// Most new blocks of one request that are taken.
const MOST_BLOCKS: usize = 4096;

fn ask(subject: &Subject) -> Answer {
    let Some(Fuzz { seconds, seed }) = subject.fuzz else { return Err("was not told for how long".into()) };
    let (until, mut case) = (Instant::now() + Duration::from_secs(seconds), seed);
    loop {
        let file = subject.folder.join(CASE_FILE);
        std::fs::write(&file, case.to_string()).map_err(|error| error.to_string())?;
        try_case(subject, case).map_err(|what| format!("seed {case}: {what}"))?;
        case += 1;
        if Instant::now() >= until {
            return noted(format!("{} cases, seeds {seed} to {}", case - seed, case - 1));
        }
    }
}

fn try_case(subject: &Subject, case: u64) -> std::result::Result<(), String> {
    let mut dice = Dice(Random::new(Key::of_seed(case).named("fuzz")));
    match subject.kind {
        Kind::Strategy => strategy(subject, &mut dice),
        Kind::Initializer => initializer(subject, &mut dice),
        Kind::Reporter => reporter(subject, &mut dice),
    }
}

struct Dice(Random);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    fn number(&mut self) -> f64 {
        let usual = self.0.uniform() * 10.0;
        self.one_of(&[usual, usual, 0.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY])
    }

    fn count(&mut self) -> u64 {
        let usual = self.below(100);
        self.one_of(&[usual, usual, usual, 0, 1, 1 << 20, u64::from(u32::MAX), 1 << 53, u64::MAX])
    }

    fn size(&mut self) -> usize {
        usize::try_from(self.count()).unwrap_or(usize::MAX)
    }
}

/// Takes or refuses as the dice say.
struct Moody<'a> {
    dice: &'a mut Dice,
    pushed: usize,
}

impl ActionSink for Moody<'_> {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        self.pushed += 1;
        if self.pushed > MOST_REQUESTS || self.dice.below(4) == 0 {
            return Err(Error::new("the dice say no"));
        }
        match action {
            // No host takes that many; one that did would have to name them all.
            Action::Insert(insert) if insert.count > MOST_BLOCKS => Err(Error::new("too many blocks")),
            Action::Insert(_) => Ok(Pushed::FirstLayer(LayerId(self.dice.below(1 << 40)))),
            _ => Ok(Pushed::Taken),
        }
    }
}

fn strategy(subject: &Subject, dice: &mut Dice) -> std::result::Result<(), String> {
    let mut strategy = subject.strategy().map_err(|error| format!("new: {error}"))?;
    let model = ModelFacts {
        layers: dice.size(),
        width: dice.size(),
        heads: dice.size(),
        context: dice.size(),
        vocabulary: dice.size(),
        init_std: dice.number(),
        mlp_width: dice.size(),
    };
    let flops = (dice.below(2) == 0).then(|| dice.number());
    let budget = Budget { reference_steps: dice.count(), flops };
    let (tokens_per_step, constant_rate) = (dice.count(), dice.below(2) == 0);
    let facts = RunFacts { model, tokens_per_step, budget, constant_rate, key: Key::of_seed(1) };
    // Without a plan no host would ask on; a strategy that is asked all the same may not fall over either.
    survived("plan", strategy.plan(&facts))?;
    let mut saved: Option<Saved> = None;
    for step in 0..dice.below(40) {
        let step = if dice.below(8) == 0 { dice.count() } else { step };
        told_of_a_step(&mut *strategy, dice, step)?;
        match dice.below(6) {
            0 => told_of_an_event(&mut *strategy, dice)?,
            1 => saved = survived("save", strategy.save())?,
            2 => {
                if let Some(saved) = &saved {
                    survived("restore", strategy.restore(saved))?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn told_of_a_step(
    strategy: &mut dyn sapwood_plugin::GrowthStrategy,
    dice: &mut Dice,
    step: u64,
) -> std::result::Result<(), String> {
    let many = dice.below(20);
    let blocks: Vec<Block> = (0..many)
        .map(|id| Block { id: LayerId(id), born_at_step: dice.count(), trains: dice.below(2) })
        .collect();
    let losses: Vec<LossPoint> = (0..dice.below(5))
        .map(|_| LossPoint { step: dice.count(), loss_nats_per_token: dice.number() })
        .collect();
    let evaluations: Vec<Evaluation> = (0..dice.below(5))
        .map(|_| Evaluation { step: dice.count(), tokens: dice.count(), loss_nats_per_token: dice.number() })
        .collect();
    let phase = dice.one_of(&["", "all", "stage1-phase2", "\u{1f332}\0"]);
    let context = StepContext {
        step,
        tokens: dice.count(),
        flops: dice.number(),
        learning_rate: dice.number(),
        progress: dice.number(),
        phase,
        blocks: &blocks,
        losses: &losses,
        evaluations: &evaluations,
    };
    let mut sink = Moody { dice, pushed: 0 };
    survived("before_step", strategy.before_step(&context, &mut Actions::new(&mut sink)))?;
    if sink.pushed > MOST_REQUESTS {
        return Err(format!("before_step: more than {MOST_REQUESTS} requests"));
    }
    Ok(())
}

fn told_of_an_event(
    strategy: &mut dyn sapwood_plugin::GrowthStrategy,
    dice: &mut Dice,
) -> std::result::Result<(), String> {
    let event = match dice.below(4) {
        3 => Event::Measured(measured(dice)),
        0 => Event::Evaluated { step: dice.count(), loss_nats_per_token: dice.number() },
        1 => Event::Resumed { step: dice.count() },
        _ => Event::Unknown,
    };
    let mut sink = Moody { dice, pushed: 0 };
    survived("on_event", strategy.on_event(&event, &mut Actions::new(&mut sink)))?;
    Ok(())
}

fn measured(dice: &mut Dice) -> Measured {
    let layer = dice.below(20).checked_sub(1).map(LayerId);
    let tensor = |dice: &mut Dice| MeasuredTensor {
        layer,
        class: dice.one_of(&["mlp.c_fc.weight", "wte.weight", ""]).into(),
        gradient_norm: dice.number(),
        weight_norm: dice.number(),
        update_norm: dice.number(),
        gradient_direction: dice.number(),
    };
    let block = |dice: &mut Dice| MeasuredBlock {
        layer: LayerId(dice.below(20)),
        activation_rms: dice.number(),
        cosine: dice.number(),
        contribution: dice.number(),
    };
    Measured {
        step: dice.count(),
        tensors: (0..dice.below(4)).map(|_| tensor(dice)).collect(),
        blocks: (0..dice.below(4)).map(|_| block(dice)).collect(),
    }
}

fn initializer(subject: &Subject, dice: &mut Dice) -> std::result::Result<(), String> {
    let mut initializer = subject.initializer().map_err(|error| format!("new: {error}"))?;
    let (depth, width) = (dice.below(5) as usize, dice.one_of(&[2, 4, 6, 8, 30]));
    let mut model = SmallModel::with_width(depth, width);
    if dice.below(3) == 0 {
        model = model.without_originals();
    }
    if dice.below(3) == 0 {
        model.scale_blocks(dice.one_of(&[0.0, -1.0, 1e-30, 1e30, f32::NAN, f32::INFINITY]));
    }
    for _ in 0..=dice.below(3) {
        let layers = model.layers();
        let position = dice.below(model.depth() as u64 + 1) as usize;
        let sources =
            (0..dice.below(3)).filter(|_| !layers.is_empty()).map(|_| dice.one_of(&layers)).collect();
        let growth = Growth { position, count: 1 + dice.below(3) as usize, sources };
        survived("init", model.grow(&mut *initializer, &growth))?;
        let saved = survived("save", initializer.save())?;
        if let Some(saved) = saved {
            survived("restore", initializer.restore(&saved))?;
        }
    }
    Ok(())
}

fn reporter(subject: &Subject, dice: &mut Dice) -> std::result::Result<(), String> {
    let mut reporter = subject.reporter().map_err(|error| format!("new: {error}"))?;
    let folder = subject.folder.join("reported");
    std::fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
    let run = MadeUpRun::new(&folder, dice.below(30));
    if dice.below(4) != 0 {
        survived("start", reporter.start(&run.session()))?;
    }
    let mut events = run.events();
    for _ in 0..dice.below(60) {
        let mut event = dice.one_of(&events);
        if dice.below(2) == 0 {
            disturb(&mut event, dice);
        }
        events.push(event.clone());
        survived("event", reporter.event(&event))?;
        if dice.below(10) == 0 {
            survived("flush", reporter.flush())?;
        }
    }
    survived("finish", reporter.finish())?;
    Ok(())
}

/// Puts numbers into an event that no run has.
fn disturb(event: &mut RunEvent, dice: &mut Dice) {
    match event {
        RunEvent::Step {
            step, tokens, flops, progress, loss_nats_per_token, wall_seconds, depth, ..
        } => {
            (*step, *tokens, *depth) = (dice.count(), dice.count(), dice.size());
            (*flops, *progress, *loss_nats_per_token) = (dice.number(), dice.number(), dice.number());
            *wall_seconds = dice.number();
        }
        RunEvent::Evaluated { step, tokens, loss_nats_per_token, .. } => {
            (*step, *tokens, *loss_nats_per_token) = (dice.count(), dice.count(), dice.number());
        }
        RunEvent::RunStarted { first_step, most_steps, .. } => {
            (*first_step, *most_steps) = (dice.count(), dice.count());
        }
        RunEvent::Metric { key, value, .. } => {
            *key = dice.one_of(&["", "/", "../../up", "a\nb,\"c\"", "\u{1f332}"]).to_owned();
            *value = dice.number();
        }
        _ => {}
    }
}
