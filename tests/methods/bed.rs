//! A small GPT-2 that has trained for a while, grown by an initializer in a real run: how it stood right before, right
//! after, and two updates later. What is asked of these stands beside this file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use engine::{LayerId, ModelShape, Snapshot, TensorId, TensorState};
use engine_native::Device;
use plugin_host::Loaded;
use plugin_host::api::host::{open, read_facts};
use plugin_host::api::testing::Growth;
use plugin_host::api::{
    self, Above, Actions, FadeIn, GrowthReceipt, GrowthStrategy, Insert, Kind, LayerInitializer, MomentsRule,
    Plan, RunFacts, StepContext, Widen, WidenedMoments, Widths,
};
use trainer::folder::RunFolder;
use trainer::folder::records::Decision;
use trainer::storage::read_json_lines;
use trainer::{InitialModel, Parts, RunConfig, TrainError, checkpoint};

use crate::support::built_plugins;

/// Blocks of the small model before growth.
pub(super) const DEPTH: usize = 3;
/// Steps after growth.
const STEPS_AFTER: u64 = 2;

/// Where a model grows.
pub(super) struct Bed {
    config: RunConfig,
    depth: usize,
    grow_at_step: u64,
    fade_in: FadeIn,
    text: fn(u32) -> u8,
}

/// A model before and after it has grown.
pub(super) struct Grown {
    /// Right before.
    pub(super) before: Snapshot,
    /// Right after.
    pub(super) after: Snapshot,
    /// After two updates of everything.
    pub(super) trained: Snapshot,
    /// The host's audit.
    pub(super) receipt: GrowthReceipt,
}

impl Bed {
    /// Six steps of training, so that no bias is zero any more and every tensor has moments.
    pub(super) fn small() -> Bed {
        let text = include_str!("../fixtures/bed.toml");
        let config = toml::from_str(text).expect("a run's configuration");
        Bed {
            config,
            depth: DEPTH,
            grow_at_step: 6,
            fade_in: FadeIn::default(),
            text: |i| (i * i % 11) as u8,
        }
    }

    /// One block 512 wide, so that its largest tensors have a million elements each; one step of training.
    pub(super) fn wide() -> Bed {
        let mut bed = Bed::small();
        bed.config.model = ModelShape { width: 512, init_std: 0.02, ..bed.config.model };
        bed.depth = 1;
        bed.grow_at_step = 1;
        bed.config.checkpoints.every_steps = 1;
        bed.config.budget.reference_steps = 1 + STEPS_AFTER;
        bed
    }

    /// Every step reads the same tokens, changes no weight, and leaves its gradient and that squared as moments: a text that
    /// repeats itself with every row, a rate that no f32 feels, and an AdamW that remembers nothing.
    pub(super) fn still() -> Bed {
        let mut bed = Bed::small();
        bed.text = |i| (i % 6 * (i % 6) % 11) as u8;
        bed.config.schedule.rate = 1e-30;
        (bed.config.optimizer.beta1, bed.config.optimizer.beta2) = (0.0, 0.0);
        bed.config.optimizer.clip_norm = 0.0;
        bed.depth = bed.config.model.layers;
        let initializers = std::mem::take(&mut bed.config.initializers).into_values();
        bed.config.initializers = initializers.map(|choice| ("wider_layers".to_owned(), choice)).collect();
        bed
    }

    /// The same, but new blocks come in over so many steps.
    pub(super) fn fading(mut self, steps: u64) -> Bed {
        self.fade_in = FadeIn::over(steps);
        self
    }

    /// The same with another seed.
    pub(super) fn with_seed(mut self, seed: u64) -> Bed {
        self.config.seed = seed;
        self
    }

    /// The model at its final depth.
    pub(super) fn shape(&self) -> &ModelShape {
        &self.config.model
    }

    /// Trains, grows as asked by an initializer of the plugins that are shipped, and trains on.
    pub(super) fn grow(&self, id: &str, config: &str, growth: &Growth) -> Grown {
        let grown = self.grow_by(from_library(id, config), growth);
        grown.unwrap_or_else(|error| panic!("{id} {config} {growth:?}: {error}"))
    }

    /// The same by any initializer.
    ///
    /// # Errors
    /// What the run ends with.
    pub(super) fn grow_by(
        &self,
        initializer: Box<dyn LayerInitializer>,
        growth: &Growth,
    ) -> Result<Grown, TrainError> {
        let (depth, at_step, fade_in) = (self.depth, self.grow_at_step, self.fade_in);
        let planting = Planting { depth, at_step, fade_in, growth: growth.clone() };
        self.decided_by(Box::new(planting), initializer)
    }

    /// Trains a model of that width, has it made as wide as the whole one by an initializer that is shipped, and trains on.
    pub(super) fn widen(&self, id: &str, config: &str, from: Widths) -> Grown {
        let widening = Widening { depth: self.depth, at_step: self.grow_at_step, from };
        let widened = self.decided_by(Box::new(widening), from_library(id, config));
        widened.unwrap_or_else(|error| panic!("{id} {config}: {error}"))
    }

    /// Trains, lets a strategy that is shipped decide, with an initializer that is, and looks at the model where the strategy
    /// makes it wider: before step 6.
    pub(super) fn decided_by_library(&self, strategy: [&str; 2], initializer: [&str; 2]) -> Grown {
        let [id, config] = strategy;
        let inner = strategy_from_library(id, config);
        let showing = Box::new(Showing { inner, at_step: self.grow_at_step });
        let decided = self.decided_by(showing, from_library(initializer[0], initializer[1]));
        decided.unwrap_or_else(|error| panic!("{id} {config}: {error}"))
    }

    fn decided_by(
        &self,
        strategy: Box<dyn GrowthStrategy>,
        initializer: Box<dyn LayerInitializer>,
    ) -> Result<Grown, TrainError> {
        let temporary = tempfile::tempdir().expect("a temporary folder");
        let folder = RunFolder::at(temporary.path().join("run"));
        self.run(strategy, initializer, temporary.path(), &folder)?;
        let load = |name: String| -> Result<Snapshot, TrainError> {
            Ok(checkpoint::load(&folder.checkpoints().join(name), self.shape())?.1)
        };
        let at = self.grow_at_step;
        let decisions: Vec<Decision> = read_json_lines(&folder.decisions_file())?;
        let receipt = decisions.into_iter().find_map(|decision| match decision {
            Decision::Edited(receipt) => Some(receipt),
            _ => None,
        });
        Ok(Grown {
            before: load(format!("{at:08}"))?,
            after: load(format!("{at:08}-grown"))?,
            trained: load(format!("{:08}", at + STEPS_AFTER))?,
            receipt: receipt.expect("it has grown"),
        })
    }

    fn run(
        &self,
        strategy: Box<dyn GrowthStrategy>,
        initializer: Box<dyn LayerInitializer>,
        temporary: &Path,
        folder: &RunFolder,
    ) -> Result<(), TrainError> {
        let text: Vec<u8> = (0..4000).map(self.text).collect();
        std::fs::write(temporary.join("text"), text).expect("room for a text");
        let needs = data::Needs { context: self.shape().context, vocabulary: self.shape().vocabulary };
        let initializer = Loaded::built_in(Kind::Initializer, "test/of-the-bed", initializer);
        let slot = self.config.initializers.keys().next().expect("the bed has one").clone();
        trainer::run(Parts {
            config: &self.config,
            engine: engine_native::build(self.shape(), Device::Cpu { threads: None })?,
            strategy: Loaded::built_in(Kind::Strategy, "test/planting", strategy),
            initializers: BTreeMap::from([(slot, initializer)]),
            shadows: Vec::new(),
            initial: InitialModel::of_seed(self.shape(), self.config.seed),
            corpus: &data::open(&self.config.data, temporary, needs)?,
            suites: &[],
            folder,
            report: &|_| {},
            interrupt: &AtomicBool::new(false),
            alone: true,
            prefix: None,
            forks: BTreeSet::new(),
            owner: std::sync::Arc::new(trainer::Alone),
        })?;
        Ok(())
    }
}

impl Grown {
    /// A tensor of a state.
    pub(super) fn tensor<'a>(state: &'a Snapshot, layer: LayerId, class: &str) -> &'a TensorState {
        let wanted = |tensor: &TensorId| tensor.layer == Some(layer) && tensor.class.0 == class;
        let found = state.tensors.iter().find(|(tensor, _)| wanted(tensor));
        &found.unwrap_or_else(|| panic!("there is no {class} of block {layer}")).1
    }

    /// The new blocks.
    pub(super) fn new_layers(&self) -> Vec<LayerId> {
        self.receipt.new_layers.iter().map(|layer| LayerId(layer.0)).collect()
    }
}

/// An initializer of the plugins that are shipped, loaded as a library.
pub(super) fn from_library(id: &str, config: &str) -> Box<dyn LayerInitializer> {
    let made = built_plugins().iter().find_map(|path| {
        let library = open(path).unwrap_or_else(|refusal| panic!("{}: {refusal}", path.display()));
        let offers = library.schema(Kind::Initializer, id).is_ok();
        offers.then(|| library.initializer(id, config))
    });
    let made = made.unwrap_or_else(|| panic!("no library offers {id}"));
    made.unwrap_or_else(|error| panic!("{id} {config}: {error}"))
}

/// The same of strategies.
fn strategy_from_library(id: &str, config: &str) -> Box<dyn GrowthStrategy> {
    let made = built_plugins().iter().find_map(|path| {
        let library = open(path).unwrap_or_else(|refusal| panic!("{}: {refusal}", path.display()));
        let offers = library.schema(Kind::Strategy, id).is_ok();
        offers.then(|| library.strategy(id, config))
    });
    let made = made.unwrap_or_else(|| panic!("no library offers {id}"));
    made.unwrap_or_else(|error| panic!("{id} {config}: {error}"))
}

/// The ids of the initializers that are shipped.
pub(super) fn shipped_initializers() -> Vec<String> {
    let facts = built_plugins().iter().map(|path| read_facts(path).expect("it was just built"));
    let plugins = facts.flat_map(|facts| facts.plugins);
    plugins.filter(|plugin| plugin.kind == Kind::Initializer).map(|plugin| plugin.id).collect()
}

/// Where new blocks go: so many in a row, from these positions if any are named.
pub(super) fn growth(position: usize, count: usize, sources: &[u64]) -> Growth {
    Growth { position, count, sources: sources.iter().map(|&source| api::LayerId(source)).collect() }
}

/// The small model's width.
pub(super) const WHOLE: Widths = Widths { width: 8, heads: 2, mlp_width: 32 };

/// A strategy that makes the model wider once.
struct Widening {
    depth: usize,
    at_step: u64,
    from: Widths,
}

impl GrowthStrategy for Widening {
    fn plan(&mut self, _: &RunFacts) -> api::Result<Plan> {
        let (slots, widths) = (vec!["new_blocks".into()], Some(self.from));
        Ok(Plan { slots, widths, ..Plan::fixed_depth(self.depth, self.depth) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> api::Result<()> {
        if context.step == self.at_step {
            let (slot, moments) = ("new_blocks".into(), WidenedMoments::Keep);
            actions.widen(Widen { widths: WHOLE, slot, moments })?;
            actions.checkpoint("grown")?;
        }
        Ok(())
    }

    api::stateless!();
}

/// A strategy that does what another does, and shows how the model stands after its requests before a step. Its one
/// initializer is the bed's.
struct Showing {
    inner: Box<dyn GrowthStrategy>,
    at_step: u64,
}

impl GrowthStrategy for Showing {
    fn plan(&mut self, run: &RunFacts) -> api::Result<Plan> {
        self.inner.plan(run)
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> api::Result<()> {
        self.inner.before_step(context, actions)?;
        if context.step == self.at_step { actions.checkpoint("grown") } else { Ok(()) }
    }

    api::stateless!();
}

/// A strategy that grows once, and keeps what came of it.
struct Planting {
    depth: usize,
    at_step: u64,
    fade_in: FadeIn,
    growth: Growth,
}

impl GrowthStrategy for Planting {
    fn plan(&mut self, run: &RunFacts) -> api::Result<Plan> {
        let (slots, executes) = (vec!["new_blocks".into()], self.fade_in.is_gradual());
        Ok(Plan { slots, executes, ..Plan::fixed_depth(self.depth, run.model.layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> api::Result<()> {
        self.fade_in.open(context, actions)?;
        if context.step == self.at_step {
            let Growth { position, count, sources } = self.growth.clone();
            let below = position.checked_sub(1).and_then(|below| context.blocks.get(below));
            let new = actions.insert(Insert {
                above: below.map_or(Above::Embedding, |block| Above::Layer(block.id)),
                count,
                slot: "new_blocks".into(),
                sources,
                moments: MomentsRule::FromInitializer,
            })?;
            self.fade_in.close(&new, actions)?;
            actions.checkpoint("grown")?;
        }
        Ok(())
    }

    api::stateless!();
}
