//! Every strategy and initializer that is shipped, as the tests of methods choose them: a new one is a row here.
//!
//! A strategy's row is for four layers and 24 steps, of which it has to make use: it ends four layers deep and as wide as the
//! study's model, asks for something after the first step, and no two rows decide alike (`pairs.rs`).

use super::pairs::bench;
use crate::support::Bench;

/// What a strategy has initializers for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Makes {
    /// New blocks in the slot `new_blocks`; with the names of their sources, or without.
    Blocks { from_sources: bool },
    /// A wider model in the slot `wider_layers`; in every way and twice as wide, or in some.
    Width { in_every_way: bool },
    /// It takes none.
    Nothing,
}

/// A strategy as a study chooses it.
pub(super) struct Strategy {
    pub(super) name: &'static str,
    pub(super) chosen: &'static str,
    pub(super) makes: Makes,
}

/// An initializer as a study chooses it.
pub(super) struct Initializer {
    pub(super) name: &'static str,
    pub(super) chosen: &'static str,
    pub(super) wants: Wants,
}

/// What an initializer needs of the strategy.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Wants {
    /// Nothing: it makes blocks of anything or nothing.
    Nothing,
    /// The block that each new one is made of.
    Sources,
    /// A model that becomes wider.
    Width,
    /// One that becomes so in every way, by the same whole factor.
    WidthInEveryWay,
}

/// Strategies that insert blocks.
pub(super) const GROWING: &[Strategy] = &[
    Strategy {
        name: "paper",
        chosen: r#"use = "sapwood/paper", config = { stages = 2, freeze = "all_below", staged_steps = 20 }"#,
        makes: Makes::Blocks { from_sources: false },
    },
    Strategy {
        name: "stack-once",
        chosen: r#"use = "sapwood/stack", config = { factor = 2, grow_after_steps = 11, optimizer = "copy" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "gradual-last",
        chosen: r#"use = "sapwood/gradual", config = { stages = 4, place = "last" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "gradual-block",
        chosen: r#"use = "sapwood/gradual", config = { stages = 4, place = "mid_block" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "gradual-layer",
        chosen: r#"use = "sapwood/gradual", config = { stages = 2, place = "mid_layer" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "llama-pro",
        chosen: r#"use = "sapwood/gradual", config = { stages = 2, place = "each", freeze = "old_blocks" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "doubling",
        chosen: r#"use = "sapwood/doubling", config = { fractions = [0.2, 0.3, 0.5], optimizer = "reset" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "doubling-anew",
        chosen: r#"use = "sapwood/doubling", config = { fractions = [0.4, 0.6], optimizer = "copy", order = "interleave", renew_sources = true }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "mslt-frozen",
        chosen: r#"use = "sapwood/mslt", config = { stages = 4, head = "frozen", optimizer = "reset" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "mslt-trains",
        chosen: r#"use = "sapwood/mslt", config = { stages = 2, head = "trains", optimizer = "copy" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "graft",
        chosen: r#"use = "sapwood/graft", config = { first_layers = 3, place = "each", freeze = "all", thaw_after_fraction = 0.5 }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "late-one",
        chosen: r#"use = "sapwood/late", config = { first_layers = 1 }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "late-zero",
        chosen: r#"use = "sapwood/late", config = { first_layers = 0, tau = 0.5 }"#,
        makes: Makes::Blocks { from_sources: false },
    },
    Strategy {
        name: "doubling-shuffled",
        chosen: r#"use = "sapwood/doubling", config = { fractions = [0.5, 0.5], optimizer = "copy", order = "shuffled" }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "doubling-fading",
        chosen: r#"use = "sapwood/doubling", config = { fractions = [0.4, 0.6], optimizer = "copy", fade_in_fraction = 0.2 }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "gradual-fading",
        chosen: r#"use = "sapwood/gradual", config = { stages = 2, place = "last", fade_in_fraction = 0.1 }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "probe",
        chosen: r#"use = "sapwood/probe", config = { fractions = [0.4, 0.6], probe_steps = 3, candidates = [{ order = "interleave", slot = "new_blocks", optimizer = "copy" }, { order = "stack", slot = "new_blocks", optimizer = "reset" }] }"#,
        makes: Makes::Blocks { from_sources: true },
    },
    Strategy {
        name: "slope",
        chosen: r#"use = "sapwood/slope-trigger", config = { depths = [1, 2, 4], at_latest = [0.3, 0.75] }"#,
        makes: Makes::Blocks { from_sources: true },
    },
];

/// Strategies that make the model wider.
pub(super) const WIDENING: &[Strategy] = &[
    Strategy {
        name: "widen",
        chosen: r#"use = "sapwood/widen", config = { parts = [0.25, 0.5, 1.0], fractions = [0.25, 0.25, 0.5], optimizer = "copy" }"#,
        makes: Makes::Width { in_every_way: false },
    },
    Strategy {
        name: "widen-anew",
        chosen: r#"use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.5, 0.5], optimizer = "reset" }"#,
        makes: Makes::Width { in_every_way: false },
    },
    Strategy {
        name: "widen-heads",
        chosen: r#"use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.4, 0.6], axes = ["heads"], optimizer = "copy" }"#,
        makes: Makes::Width { in_every_way: false },
    },
    Strategy {
        name: "widen-model",
        chosen: r#"use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.3, 0.7], axes = ["stream", "heads", "hidden_layers"], optimizer = "copy" }"#,
        makes: Makes::Width { in_every_way: true },
    },
    Strategy {
        name: "widen-staged",
        chosen: r#"use = "sapwood/widen", config = { parts = [0.5, 1.0], fractions = [0.3, 0.7], axes = ["stream", "heads", "hidden_layers"], optimizer = "staged" }"#,
        makes: Makes::Width { in_every_way: true },
    },
];

/// Strategies that do neither.
pub(super) const WITHOUT_GROWTH: &[Strategy] = &[
    Strategy {
        name: "lisa",
        chosen: r#"use = "sapwood/turns", config = { blocks = 2, every_steps = 6, order = "random", optimizer = "keep", shared = "train" }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "badam",
        chosen: r#"use = "sapwood/turns", config = { blocks = 1, every_steps = 6, order = "ascending", optimizer = "reset", shared = "train" }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "layer-drop",
        chosen: r#"use = "sapwood/layer-drop", config = { drop = { rule = "anneal" }, granularity = "sequence", scale = "none" }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "raptr",
        chosen: r#"use = "sapwood/raptr", config = { scale = "root" }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "by-gradients",
        chosen: r#"use = "sapwood/adaptive-freezing", config = { shared = "freeze", interval = 0.1, alpha = 0.5 }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "rates-fall",
        chosen: r#"use = "sapwood/freeze-out", config = { embeddings = "train", interval = 0.1 }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "rates-fall-all",
        chosen: r#"use = "sapwood/freeze-out", config = { embeddings = "freeze", t_0 = 0.3 }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "lengths",
        chosen: r#"use = "sapwood/grow-length", config = { parts = [4, 2, 1], fractions = [0.25, 0.25, 0.5] }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "restart",
        chosen: r#"use = "sapwood/restart", config = { at_fractions = [0.4], schedule = "restart", optimizer = "reset" }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "front-frozen",
        chosen: r#"use = "sapwood/front-freezing", config = { embeddings = "freeze" }"#,
        makes: Makes::Nothing,
    },
    Strategy {
        name: "front-open",
        chosen: r#"use = "sapwood/front-freezing", config = { embeddings = "train" }"#,
        makes: Makes::Nothing,
    },
];

/// Initializers of new blocks.
pub(super) const FOR_BLOCKS: &[Initializer] = &[
    Initializer { name: "original", chosen: r#"use = "sapwood/original""#, wants: Wants::Nothing },
    Initializer { name: "copy", chosen: r#"use = "sapwood/copy""#, wants: Wants::Sources },
    Initializer { name: "zero-out", chosen: r#"use = "sapwood/zero-out""#, wants: Wants::Nothing },
    Initializer { name: "ln-zero", chosen: r#"use = "sapwood/ln-zero""#, wants: Wants::Nothing },
    Initializer { name: "lerp", chosen: r#"use = "sapwood/lerp""#, wants: Wants::Sources },
    Initializer {
        name: "lerp-zero",
        chosen: r#"use = "sapwood/lerp", config = { t = 0.25, zero_out = true }"#,
        wants: Wants::Sources,
    },
    Initializer { name: "copy-noise", chosen: r#"use = "sapwood/copy-noise""#, wants: Wants::Sources },
    Initializer {
        name: "shrink-perturb",
        chosen: r#"use = "sapwood/shrink-perturb""#,
        wants: Wants::Sources,
    },
    Initializer {
        name: "split-residual",
        chosen: r#"use = "sapwood/split-residual", config = { copies = 2 }"#,
        wants: Wants::Sources,
    },
    Initializer {
        name: "ot-average",
        chosen: r#"use = "sapwood/ot-average", config = { heads = 2 }"#,
        wants: Wants::Sources,
    },
    Initializer {
        name: "extrapolated",
        chosen: r#"use = "sapwood/linear-combination", config = { weights = [{ offset = 0, weight = 1.5 }, { offset = -1, weight = -0.5 }] }"#,
        wants: Wants::Sources,
    },
];

/// Initializers of wider models.
pub(super) const FOR_WIDTH: &[Initializer] = &[
    Initializer { name: "net2net", chosen: r#"use = "sapwood/net2net""#, wants: Wants::Width },
    Initializer {
        name: "net2net-noise",
        chosen: r#"use = "sapwood/net2net", config = { noise = 0.01 }"#,
        wants: Wants::Width,
    },
    Initializer { name: "aki", chosen: r#"use = "sapwood/aki""#, wants: Wants::Width },
    Initializer { name: "lemon", chosen: r#"use = "sapwood/lemon""#, wants: Wants::Width },
    Initializer { name: "original", chosen: r#"use = "sapwood/original""#, wants: Wants::Width },
    Initializer { name: "staged", chosen: r#"use = "sapwood/staged""#, wants: Wants::WidthInEveryWay },
];

/// All of them.
pub(super) fn strategies() -> impl Iterator<Item = &'static Strategy> {
    [GROWING, WIDENING, WITHOUT_GROWTH].into_iter().flatten()
}

impl Strategy {
    /// The lines of an arm of that name, with its initializer where it takes one.
    pub(super) fn arm(&self, name: &str, initializer: &str) -> String {
        let slot = match self.makes {
            Makes::Blocks { .. } => format!("initializers.new_blocks = {{ {initializer} }}\n"),
            Makes::Width { .. } => format!("initializers.wider_layers = {{ {initializer} }}\n"),
            Makes::Nothing => String::new(),
        };
        format!("\n[arms.{name}]\nstrategy = {{ {} }}\n{slot}", self.chosen)
    }

    /// The same with an initializer that fits, drawing where one can.
    fn arm_that_fits(&self) -> String {
        let initializer = match self.makes {
            Makes::Blocks { from_sources: true } => r#"use = "sapwood/copy-noise""#,
            Makes::Width { .. } => r#"use = "sapwood/net2net", config = { noise = 0.01 }"#,
            _ => r#"use = "sapwood/original""#,
        };
        self.arm(self.name, initializer)
    }
}

/// A study with an arm for every strategy; their names.
pub(super) fn study_of_every_strategy() -> (Bench, Vec<&'static str>) {
    let bench = bench();
    bench.add_to_study(&strategies().map(Strategy::arm_that_fits).collect::<String>());
    (bench, strategies().map(|strategy| strategy.name).collect())
}
