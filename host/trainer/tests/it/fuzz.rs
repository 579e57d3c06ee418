//! Whatever a strategy and an initializer answer, a run ends well or is ended by an error that names somebody: no
//! panic, no broken invariant, nothing half written.
//!
//! Each case is a seed.

use std::panic::{AssertUnwindSafe, catch_unwind};

use engine::{Engine, ScriptedEngine, Weights};
use plugin_host::Loaded;
use plugin_host::api::{
    Above, Action, Actions, Batch, Claim, Gate, Insert, Key, Kind, LayerId, Measure, MomentsRule,
    OptimizerChange, OptimizerRule, Pass, Probe, Random, RateFactor, Replace, ScheduleChange, ScheduleShape,
    StepContext, Train, Which,
};
use trainer::folder::records::Decision;
use trainer::{ErrorClass, RecordedRun, RunSummary, TrainError};

use crate::bench::{Bench, Filling, Told};
use crate::damage::search;

/// Seeds that have found something once; none so far.
const KEPT: [u64; 0] = [];
/// Enough to see every request, every refusal and every fault several times.
const USUAL_CASES: u64 = 150;

/// Numbers of all sizes, most of them nonsense.
struct Dice(Random);

impl Dice {
    fn new(seed: u64, stream: &str, number: u64) -> Dice {
        Dice(Random::new(Key::of_seed(seed).named(stream).numbered(number)))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0.below(end)
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize].clone()
    }

    fn number(&mut self) -> f64 {
        let odd = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-300, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        self.one_of(&odd)
    }

    fn count(&mut self) -> u64 {
        self.one_of(&[0, 1, 1, 2, 3, 7, 1 << 20, u64::from(u32::MAX), 1 << 53, u64::MAX])
    }

    /// Most often one that is there.
    fn layer(&mut self, there: &[LayerId]) -> LayerId {
        if there.is_empty() || self.below(4) == 0 { LayerId(self.count()) } else { self.one_of(there) }
    }

    fn layers(&mut self, there: &[LayerId]) -> Vec<LayerId> {
        (0..self.below(5)).map(|_| self.layer(there)).collect()
    }

    fn text(&mut self) -> String {
        let long = "x".repeat(100_000);
        let texts =
            ["", "a phase", "new", "../../up", "/", "\0", "\u{1f332}\n", "wte.weight", "attn.c_attn.weight"];
        if self.below(20) == 0 { long } else { self.one_of(&texts).to_owned() }
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 0
    }

    fn moments(&mut self) -> MomentsRule {
        self.one_of(&[MomentsRule::FromInitializer, MomentsRule::Zero, MomentsRule::CopyFromSource])
    }

    /// Most often for the two sequences of a step.
    fn pass(&mut self, there: &[LayerId]) -> Pass {
        let layer = self.layer(there);
        let [attention_gate, mlp_gate] = [0; 2].map(|_| if self.flag() { 1.0 } else { self.number() as f32 });
        let masks = [None, None, Some(vec![true, false]), Some(vec![false, false]), Some(vec![true])];
        Pass { layer, attention_gate, mlp_gate, sequences: self.one_of(&masks) }
    }

    fn which(&mut self, there: &[LayerId]) -> Which {
        match self.below(4) {
            0 => Which::All,
            1 => Which::Shared,
            2 => Which::Layers(self.layers(there)),
            _ => Which::Class(self.text()),
        }
    }

    fn gate(&mut self, there: &[LayerId]) -> Gate {
        Gate { layer: self.layer(there), attention: self.number() as f32, mlp: 0.5 }
    }

    fn rate_factor(&mut self, there: &[LayerId]) -> RateFactor {
        RateFactor { which: self.which(there), factor: self.number() }
    }

    fn shape(&mut self) -> ScheduleShape {
        let (final_fraction, decay_fraction) = (self.number(), self.number());
        self.one_of(&[
            ScheduleShape::Constant,
            ScheduleShape::Linear { final_fraction },
            ScheduleShape::Cosine { final_fraction },
            ScheduleShape::Wsd { final_fraction, decay_fraction },
        ])
    }

    fn action(&mut self, there: &[LayerId]) -> Action {
        match self.below(21) {
            0 | 1 => Action::Insert(Insert {
                above: if self.flag() { Above::Embedding } else { Above::Layer(self.layer(there)) },
                count: usize::try_from(self.count()).unwrap_or(usize::MAX),
                slot: if self.below(4) == 0 { self.text() } else { "new".into() },
                sources: if self.flag() { vec![] } else { self.layers(there) },
                moments: self.moments(),
            }),
            2 => Action::Remove(self.layers(there)),
            3 | 4 => {
                let classes = if self.flag() { None } else { Some(vec![self.text(), self.text()]) };
                let [token_embedding, position_embedding, final_norm, head] = [0; 4].map(|_| self.flag());
                let layers = self.layers(there);
                Action::Train(Train {
                    layers,
                    classes,
                    token_embedding,
                    position_embedding,
                    final_norm,
                    head,
                })
            }
            5 => {
                let which = self.which(there);
                let change = match self.below(4) {
                    0 => OptimizerChange::Reset,
                    1 => OptimizerChange::Scale { first: self.number(), second: self.number() },
                    2 => OptimizerChange::SetUpdates(self.count()),
                    _ => OptimizerChange::CopyFrom(self.layer(there)),
                };
                Action::Optimizer(OptimizerRule { which, change })
            }
            6 => Action::Schedule(match self.below(7) {
                0 => ScheduleChange::Shift(self.number()),
                1 => ScheduleChange::Rewarm(self.count()),
                2 => ScheduleChange::Restart,
                3 => ScheduleChange::Extend(self.number()),
                4 => ScheduleChange::Scale(self.number()),
                5 => ScheduleChange::Follow(self.shape()),
                _ => ScheduleChange::DecayNow(self.number()),
            }),
            7 => Action::Evaluate,
            8 => Action::Checkpoint(self.text()),
            9 => Action::Phase(self.text()),
            10 => Action::Metric { key: self.text(), value: self.number() },
            11 => self.one_of(&[Action::Accept, Action::Reject("no".into())]),
            12 => Action::Replace(Replace {
                layers: self.layers(there),
                slot: if self.below(4) == 0 { self.text() } else { "new".into() },
                sources: if self.flag() { vec![] } else { self.layers(there) },
                moments: self.moments(),
            }),
            13 => Action::Execute((0..self.below(6)).map(|_| self.pass(there)).collect()),
            14 => Action::ExecuteWholeStack,
            15 => Action::Permute(if self.flag() {
                there.iter().rev().copied().collect()
            } else {
                self.layers(there)
            }),
            16 => Action::Gate((0..self.below(3)).map(|_| self.gate(there)).collect()),
            17 => Action::Rates((0..self.below(3)).map(|_| self.rate_factor(there)).collect()),
            18 => Action::Batch(Batch {
                sequences: self.count() as usize,
                length: self.one_of(&[6, 3, 2, 1, 0, 7]),
            }),
            19 if self.flag() => {
                let steps = self.one_of(&[1, 1, 2, 5, 0, u64::MAX]);
                let candidate = |dice: &mut Dice| (0..dice.below(3)).map(|_| dice.action(there)).collect();
                let candidates = (0..self.below(4)).map(|_| candidate(self)).collect();
                Action::Probe(Probe { candidates, steps })
            }
            _ if self.below(30) == 0 => Action::Stop(self.text()),
            _ => Action::Phase("on".into()),
        }
    }

    /// A few requests; what is refused is sometimes passed on as an error.
    fn decide(&mut self, there: &[LayerId], actions: &mut Actions<'_>) -> plugin_host::api::Result<()> {
        if self.below(3) != 0 {
            return Ok(());
        }
        for _ in 0..=self.below(4) {
            let action = self.action(there);
            if let Err(refusal) = actions.push(action)
                && self.below(40) == 0
            {
                return Err(refusal);
            }
        }
        if self.below(200) == 0 {
            panic!("the dice say so")
        }
        Ok(())
    }
}

/// One run of one seed: its end, and the bench that it ran on.
fn run(seed: u64) -> (Bench, std::thread::Result<Result<RunSummary, TrainError>>) {
    let mut bench = Bench::new();
    let mut dice = Dice::new(seed, "bench", 0);
    bench.config.evaluation.every_steps = 1 + dice.below(7);
    bench.config.checkpoints.every_steps = 1 + dice.below(7);
    let depth = dice.below(4) as usize;
    let decide = move |context: &StepContext<'_>, actions: &mut Actions<'_>| {
        let there: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        Dice::new(seed, "step", context.step).decide(&there, actions)
    };
    let mut told = Told { initial_depth: depth, deepest: depth + dice.below(5) as usize, ..Told::to(decide) };
    let (tensors, blocks) = (dice.flag(), dice.flag());
    told.measure = dice.flag().then(|| Measure { every_steps: dice.below(4), tensors, blocks });
    told.react = Box::new(move |event, actions| {
        let number = serde_json::to_string(event).map_or(0, |text| text.len() as u64);
        Dice::new(seed, "event", number).decide(&[], actions)
    });
    let fill = dice.one_of::<fn(f32) -> f32>(&[|x| x, |x| x, |x| x, |_| f32::NAN, |_| f32::INFINITY, |x| -x]);
    let filling = Filling(fill, dice.one_of(&[Claim::None, Claim::Exact, Claim::Approximate]));
    let engine = Box::new(ScriptedEngine::new(&bench.config.model, Weights::Kept)) as Box<dyn Engine>;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        bench.run_with(told, filling, engine, &std::sync::atomic::AtomicBool::new(false))
    }));
    (bench, ended)
}

/// What a run of any answers has to keep.
fn check(seed: u64) {
    let (bench, ended) = run(seed);
    match ended {
        // The one panic that is meant: a loaded plugin's is caught at the border, this one is ours.
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
            assert_eq!(said, "the dice say so", "seed {seed} made the trainer panic");
        }
        Ok(Err(error)) => assert!(
            matches!(error.class(), ErrorClass::PluginFault | ErrorClass::Config | ErrorClass::Numeric),
            "seed {seed} is blamed on the wrong one: {error}"
        ),
        Ok(Ok(summary)) => {
            assert!(summary.loss_nats_per_token.is_finite(), "seed {seed}: {summary:?}");
            assert!(summary.costs.tokens.0 <= 240, "seed {seed}: {summary:?}");
            let numbers: Vec<u64> = bench.steps().iter().map(|step| step.step.0).collect();
            assert_eq!(numbers, (0..summary.steps.0).collect::<Vec<_>>(), "seed {seed}: each step once");
        }
    }
    let intact = |decision: &Decision| match decision {
        Decision::PhaseEnded(audit) => audit.frozen_bit_identical,
        Decision::Edited(receipt) => receipt.others_bit_identical,
        _ => true,
    };
    if bench.folder().decisions_file().exists() {
        assert!(bench.decisions().iter().all(intact), "seed {seed}: what was frozen has changed");
    }
    replays(&bench, seed);
    let left: Vec<String> = bench.files().into_iter().filter(|name| name.contains(".tmp")).collect();
    assert!(left.is_empty(), "seed {seed} leaves {left:?}");
}

/// Whatever was decided, the log says enough to go through it all once more.
fn replays(bench: &Bench, seed: u64) {
    if !bench.folder().decisions_file().exists() {
        return;
    }
    let run = RecordedRun::read(bench.folder());
    let run = run.unwrap_or_else(|error| panic!("seed {seed} leaves what cannot be read: {error}"));
    let strategy = Box::new(Told { initial_depth: 0, ..Told::to(|_, _| Ok(())) });
    let replayed = trainer::replay(&run, Loaded::built_in(Kind::Strategy, "test/told", strategy));
    let replay = replayed.unwrap_or_else(|error| panic!("seed {seed} is not replayed: {error}"));
    assert!(replay.failed.is_none() && replay.asked >= bench.steps().len() as u64, "seed {seed}: {replay:?}");
}

#[test]
fn whatever_a_plugin_answers_a_run_is_contained() {
    // Some cases panic on purpose.
    std::panic::set_hook(Box::new(|_| {}));
    search("plugin-answers", &KEPT, USUAL_CASES, check);
    drop(std::panic::take_hook());
}
