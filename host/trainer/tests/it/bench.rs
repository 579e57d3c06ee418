//! A run's parts, made small, and a strategy that does as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use data::{Corpus, DataConfig, Needs, Order};
use engine::{Engine, ModelShape, Precision, Recompute, ScriptedEngine, Step, Weights};
use plugin_host::api::{
    self, Actions, Claim, Event, GrowthStrategy, InitContext, Kind, LayerInitializer, MomentsRule, Plan,
    RunEvent, RunFacts, Saved, StepContext, TensorMut,
};
use plugin_host::{Choice, Isolation, Loaded};
use trainer::folder::RunFolder;
use trainer::folder::records::{Decision, EvaluationRecord, ShadowRecord, StepRecord};
use trainer::storage::read_json_lines;
use trainer::{
    Alone, Audit, Budget, Checkpoints, Evaluation, InitialModel, InitialModelConfig, OnNonFinite, Optimizer,
    Owner, Parts, Prefix, RunConfig, RunSummary, Schedule, ScheduleKind, Suite, TrainError, Training,
    Writing,
};

/// What a scripted strategy does before a step.
pub(crate) type Decide = Box<dyn Fn(&StepContext<'_>, &mut Actions<'_>) -> api::Result<()> + Send>;
/// What it does on an event.
pub(crate) type React = Box<dyn Fn(&Event, &mut Actions<'_>) -> api::Result<()> + Send>;

/// A strategy that does as it is told, and counts its calls (so that it has a state to save).
pub(crate) struct Told {
    pub(crate) initial_depth: usize,
    pub(crate) deepest: usize,
    pub(crate) decide: Decide,
    pub(crate) react: React,
    pub(crate) measure: Option<api::Measure>,
    pub(crate) widths: Option<api::Widths>,
    pub(crate) slot: &'static str,
    pub(crate) calls: u64,
    /// Whether it tells of every call, for which the step before has to be read.
    pub(crate) tells: bool,
}

impl Told {
    pub(crate) fn to(
        decide: impl Fn(&StepContext<'_>, &mut Actions<'_>) -> api::Result<()> + Send + 'static,
    ) -> Told {
        let react: React = Box::new(|_, _| Ok(()));
        Told {
            initial_depth: 1,
            deepest: 3,
            decide: Box::new(decide),
            react,
            measure: None,
            widths: None,
            slot: "new",
            calls: 0,
            tells: true,
        }
    }
}

impl GrowthStrategy for Told {
    fn plan(&mut self, _: &RunFacts) -> api::Result<Plan> {
        let slots = vec![self.slot.into()];
        let depths = Plan::fixed_depth(self.initial_depth, self.deepest);
        Ok(Plan { slots, executes: true, measure: self.measure, widths: self.widths, ..depths })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> api::Result<()> {
        self.calls += 1;
        if self.tells {
            actions.metric("calls", self.calls as f64)?;
        }
        (self.decide)(context, actions)
    }

    fn on_event(&mut self, event: &Event, actions: &mut Actions<'_>) -> api::Result<()> {
        (self.react)(event, actions)
    }

    fn save(&self) -> api::Result<Saved> {
        Saved::new(1, &self.calls)
    }

    fn restore(&mut self, saved: &Saved) -> api::Result<()> {
        self.calls = saved.read(1)?;
        Ok(())
    }
}

/// An initializer that copies the original, but for what it is told to do with the first element.
pub(crate) struct Filling(pub(crate) fn(f32) -> f32, pub(crate) Claim);

impl LayerInitializer for Filling {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> api::Result<Claim> {
        for (new, original) in target.iter_mut().zip(context.original_tensors()?) {
            new.values.copy_from_slice(original.values);
            new.values[0] = (self.0)(original.values[0]);
        }
        Ok(self.1)
    }

    fn moments(&self) -> MomentsRule {
        MomentsRule::Zero
    }

    fn save(&self) -> api::Result<Saved> {
        Saved::new(0, &())
    }

    fn restore(&mut self, saved: &Saved) -> api::Result<()> {
        saved.read::<()>(0)
    }
}

/// A workbench: a folder, data, and a configuration to change.
pub(crate) struct Bench {
    pub(crate) temporary: tempfile::TempDir,
    pub(crate) config: RunConfig,
    pub(crate) corpus: Corpus,
    pub(crate) events: Mutex<Vec<RunEvent>>,
    pub(crate) prefix: Option<Prefix>,
    pub(crate) forks: BTreeSet<Step>,
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) suites: Vec<Suite>,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let text: Vec<u8> = (0..4000u32).map(|i| (i * i % 11) as u8).collect();
        std::fs::write(temporary.path().join("text"), text).expect("room for a text");
        let config = config();
        let needs = Needs { context: config.model.context, vocabulary: config.model.vocabulary };
        let corpus = data::open(&config.data, temporary.path(), needs).expect("good data");
        let (prefix, forks) = (None, BTreeSet::new());
        let (owner, suites) = (Arc::new(Alone), Vec::new());
        Bench { temporary, config, corpus, events: Mutex::default(), prefix, forks, owner, suites }
    }

    pub(crate) fn folder(&self) -> RunFolder {
        RunFolder::at(self.temporary.path().join("run"))
    }

    pub(crate) fn scripted(&self) -> Box<dyn Engine> {
        Box::new(ScriptedEngine::new(&self.config.model, Weights::Kept))
    }

    /// Runs a strategy on a scripted engine.
    pub(crate) fn run(&self, strategy: Told) -> Result<RunSummary, TrainError> {
        self.run_with(strategy, Filling(|first| first, Claim::None), self.scripted(), &AtomicBool::new(false))
    }

    pub(crate) fn run_with(
        &self,
        strategy: Told,
        initializer: Filling,
        engine: Box<dyn Engine>,
        interrupt: &AtomicBool,
    ) -> Result<RunSummary, TrainError> {
        self.run_by(strategy, Box::new(initializer), engine, interrupt)
    }

    pub(crate) fn run_by(
        &self,
        strategy: Told,
        initializer: Box<dyn LayerInitializer>,
        engine: Box<dyn Engine>,
        interrupt: &AtomicBool,
    ) -> Result<RunSummary, TrainError> {
        self.run_parts(strategy, initializer, Vec::new(), engine, interrupt)
    }

    /// With these riding along.
    pub(crate) fn run_beside(
        &self,
        strategy: Told,
        shadows: Vec<Told>,
        interrupt: &AtomicBool,
    ) -> Result<RunSummary, TrainError> {
        let filling = Box::new(Filling(|first| first, Claim::None));
        self.run_parts(strategy, filling, shadows, self.scripted(), interrupt)
    }

    fn run_parts(
        &self,
        strategy: Told,
        initializer: Box<dyn LayerInitializer>,
        shadows: Vec<Told>,
        engine: Box<dyn Engine>,
        interrupt: &AtomicBool,
    ) -> Result<RunSummary, TrainError> {
        let shadow = |told: Told| -> Loaded<dyn GrowthStrategy> {
            Loaded::built_in(Kind::Strategy, "test/shadow", Box::new(told))
        };
        let loaded: Loaded<dyn LayerInitializer> =
            Loaded::built_in(Kind::Initializer, "test/filling", initializer);
        trainer::run(Parts {
            config: &self.config,
            engine,
            strategy: Loaded::built_in(Kind::Strategy, "test/told", Box::new(strategy)),
            initializers: BTreeMap::from([("new".to_owned(), loaded)]),
            shadows: shadows.into_iter().map(shadow).collect(),
            initial: InitialModel::of_seed(&self.config.model, self.config.seed),
            corpus: &self.corpus,
            suites: &self.suites,
            folder: &self.folder(),
            report: &|event| self.events.lock().expect("no test panics while holding it").push(event),
            interrupt,
            alone: true,
            prefix: self.prefix.clone(),
            forks: self.forks.clone(),
            owner: self.owner.clone(),
        })
    }

    pub(crate) fn decisions(&self) -> Vec<Decision> {
        read_json_lines(&self.folder().decisions_file()).expect("a whole log")
    }

    pub(crate) fn steps(&self) -> Vec<StepRecord> {
        read_json_lines(&self.folder().metrics_file()).expect("a whole log")
    }

    pub(crate) fn evaluations(&self) -> Vec<EvaluationRecord> {
        read_json_lines(&self.folder().evaluations_file()).expect("a whole log")
    }

    pub(crate) fn shadows(&self) -> Vec<ShadowRecord> {
        read_json_lines(&self.folder().shadows_file()).expect("a whole log")
    }

    /// Names of what is in the folder, temporary files included.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        names_below(self.folder().path())
    }
}

fn names_below(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).expect("the folder is there").flatten();
    let names = entries.flat_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.path().is_dir() {
            names_below(&entry.path()).into_iter().map(|below| format!("{name}/{below}")).collect()
        } else {
            vec![name]
        }
    });
    names.collect()
}

fn config() -> RunConfig {
    let model = ModelShape { layers: 3, ..engine::contract::tiny_shape() };
    let choice = |id: &str| Choice {
        id: id.into(),
        library: None,
        isolation: Isolation::None,
        config: serde_json::json!({}),
    };
    RunConfig {
        arm: "arm".into(),
        seed: 1,
        model,
        initial_model: InitialModelConfig { from: None },
        data: DataConfig::Text { path: "text".into(), validation_fraction: 0.1, order: Order::Shuffled },
        training: Training {
            sequences_per_step: 2,
            micro_batch_sequences: 2,
            recompute: Recompute::Gelu,
            on_non_finite: OnNonFinite::Stop,
            precision: Precision::Fp32,
        },
        optimizer: Optimizer { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, weight_decay: 0.1, clip_norm: 1.0 },
        schedule: Schedule {
            kind: ScheduleKind::Linear,
            rate: 1e-2,
            warmup_steps: 3,
            final_fraction: Some(0.1),
            decay_fraction: None,
        },
        budget: Budget { reference_steps: 20, flops: None },
        evaluation: Evaluation { every_steps: 5, sequences: 4, suites: Vec::new() },
        checkpoints: Checkpoints { every_steps: 4, keep: 2, at_phase_end: false, write: Writing::Background },
        audit: Audit { probe_sequences: 2 },
        strategy: choice("test/told"),
        initializers: BTreeMap::from([("new".to_owned(), choice("test/filling"))]),
        shadows: Vec::new(),
    }
}

/// Inserts one block on top.
pub(crate) fn grow(context: &StepContext<'_>, actions: &mut Actions<'_>) -> api::Result<Vec<api::LayerId>> {
    actions.insert(api::Insert {
        above: context.blocks.last().map_or(api::Above::Embedding, |top| api::Above::Layer(top.id)),
        count: 1,
        slot: "new".into(),
        sources: vec![],
        moments: MomentsRule::Zero,
    })
}
