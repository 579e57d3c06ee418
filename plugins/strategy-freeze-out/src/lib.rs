//! FreezeOut: every block has a learning rate of its own, which falls along half a cosine and is zero at the block's own
//! time, the lower the block the earlier; then it is frozen (Brock et al., arXiv 1706.04983).
//!
//! Block i of L (from 0) stops at the share `t_i` of the budget, `t_i = t_0 + (1 - t_0) i / (L - 1)`, or at its cube with
//! `cubed`. At the share t of the budget its rate is the schedule's times `(1 + cos(pi t / t_i)) / 2`, with `scaled`
//! divided by `t_i`, so that every block travels as far. The rate of a study that falls by itself would fall twice:
//! that is refused until `falling_rate = "accept"` says that it is meant. No growth. The default of `t_0` is ours.
//!
//! Do embeddings and head freeze too? With `embeddings = "freeze"` they have the lowest block's rate and freeze with it, and
//! nothing goes back below the lowest block that trains; a tied head, being the token embedding, stands still with
//! them. With `train` they keep the schedule's rate to the end, and gradients cross every frozen block. The final
//! norm always does.

use std::f64::consts::PI;

use sapwood_plugin::{
    Actions, Error, GrowthStrategy, LayerId, Plan, PlannedPhase, Plugin, RateFactor, Result, RunFacts, Saved,
    StepContext, Train, Which,
};
use serde::Deserialize;

/// Tensors that the blocks share, below them.
const EMBEDDINGS: [&str; 2] = ["wte.weight", "wpe.weight"];

/// When blocks stop, and what becomes of the embeddings.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "embeddings": "freeze" }]))]
struct Config {
    /// What becomes of the embeddings.
    embeddings: Embeddings,
    /// Share of the budget at which the lowest block stops, above 0 and at most 1 (default, ours: 0.5).
    #[serde(default = "one_half")]
    t_0: f64,
    /// Whether shares are cubed, so that lower blocks stop much earlier (default: no).
    #[serde(default)]
    cubed: bool,
    /// Whether a block that stops earlier learns faster until then (default: yes).
    #[serde(default = "yes")]
    scaled: bool,
    /// Share of the budget after which rates are set anew, above 0 and at most 0.1 (default, ours: 0.002).
    #[serde(default = "one_in_500")]
    interval: f64,
    /// What it does where the study's rate falls by itself.
    #[serde(default)]
    falling_rate: FallingRate,
}

fn one_half() -> f64 {
    0.5
}

fn yes() -> bool {
    true
}

fn one_in_500() -> f64 {
    0.002
}

/// The embeddings.
#[derive(Clone, Copy, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Embeddings {
    /// Slow down and freeze with the lowest block, a tied head with them.
    Freeze,
    /// Train at the schedule's rate, and the head with them.
    Train,
}

/// A study whose learning rate is not constant.
#[derive(Clone, Copy, Default, PartialEq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
enum FallingRate {
    /// Is refused before the first step.
    #[default]
    Refuse,
    /// Is meant: both falls are multiplied.
    Accept,
}

struct FreezeOut {
    config: Config,
    /// Intervals of the budget for which the rates have been set, which is its state.
    set_for: Option<u64>,
}

impl Plugin for FreezeOut {
    type Config = Config;

    fn new(config: Config) -> Result<FreezeOut> {
        let checks = [
            ("t_0", config.t_0 > 0.0 && config.t_0 <= 1.0, "must lie above 0, and at most at 1"),
            (
                "interval",
                config.interval > 0.0 && config.interval <= 0.1,
                "must lie above 0, and at most at 0.1",
            ),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, wanted)) => Err(Error::new(wanted).in_field(field)),
            None => Ok(FreezeOut { config, set_for: None }),
        }
    }
}

impl GrowthStrategy for FreezeOut {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        if !run.constant_rate && self.config.falling_rate == FallingRate::Refuse {
            let what = "every block's rate falls by itself, and the study's would fall on top of that: choose \
                        `schedule.kind = \"constant\"`, or say `falling_rate = \"accept\"`";
            return Err(Error::new(what).in_field("falling_rate"));
        }
        self.set_for = None;
        let depth = run.model.layers;
        let trains = "all; then fewer and fewer blocks from the bottom, each slower and slower";
        let phase = PlannedPhase {
            label: "frozen0".into(),
            first_step: 0,
            steps: None,
            depth,
            trains: trains.into(),
        };
        Ok(Plan { phases: vec![phase], ..Plan::fixed_depth(depth, depth) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if context.step == 0 {
            actions.phase("frozen0")?;
        }
        let layers: Vec<LayerId> = context.blocks.iter().map(|block| block.id).collect();
        let wanted = self.frozen(context.progress, layers.len());
        let frozen = context.blocks.iter().filter(|block| block.trains == 0).count();
        if wanted > frozen {
            let open = layers[wanted..].to_vec();
            actions.phase(&format!("frozen{wanted}"))?;
            actions.train(match self.config.embeddings {
                Embeddings::Freeze => Train { final_norm: true, ..Train::blocks_only(open) },
                Embeddings::Train => Train::with_shared(open),
            })?;
        }
        let interval = (context.progress / self.config.interval) as u64;
        if self.set_for != Some(interval) {
            self.set_for = Some(interval);
            actions.rates(self.factors(context.progress, &layers))?;
        }
        Ok(())
    }

    fn save(&self) -> Result<Saved> {
        Saved::new(1, &self.set_for)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.set_for = saved.read(1)?;
        Ok(())
    }
}

impl FreezeOut {
    /// The share of the budget at which a block stops.
    fn stops_at(&self, block: usize, depth: usize) -> f64 {
        let height = if depth > 1 { block as f64 / (depth - 1) as f64 } else { 1.0 };
        let stops_at = self.config.t_0 + (1.0 - self.config.t_0) * height;
        if self.config.cubed { stops_at * stops_at * stops_at } else { stops_at }
    }

    /// Blocks that have stopped; the topmost trains to the end.
    fn frozen(&self, progress: f64, depth: usize) -> usize {
        (0..depth.saturating_sub(1)).take_while(|&block| progress >= self.stops_at(block, depth)).count()
    }

    /// What a block's rate is multiplied by.
    fn factor(&self, progress: f64, block: usize, depth: usize) -> f64 {
        let stops_at = self.stops_at(block, depth);
        let fallen = 0.5 * (1.0 + libm::cos(PI * (progress / stops_at).min(1.0)));
        if self.config.scaled { fallen / stops_at } else { fallen }
    }

    fn factors(&self, progress: f64, layers: &[LayerId]) -> Vec<RateFactor> {
        let of_blocks = layers.iter().enumerate().map(|(block, &layer)| RateFactor {
            which: Which::Layers(vec![layer]),
            factor: self.factor(progress, block, layers.len()),
        });
        let with_lowest = EMBEDDINGS.iter().filter(|_| self.config.embeddings == Embeddings::Freeze);
        let of_embeddings = with_lowest.map(|&class| RateFactor {
            which: Which::Class(class.into()),
            factor: self.factor(progress, 0, layers.len()),
        });
        of_blocks.chain(of_embeddings).collect()
    }
}

sapwood_plugin::export! {
    strategy FreezeOut {
        id: "sapwood/freeze-out",
        summary: "no growth; each block's rate falls to zero, the lower the earlier (arXiv 1706.04983)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, Transcript, plugin};
    use sapwood_plugin::{Action, RateFactor};

    use super::FreezeOut;

    fn make(config: &str) -> FreezeOut {
        plugin(config).expect("a good configuration")
    }

    fn drive(config: &str, layers: usize, steps: u64) -> Transcript {
        SimulatedRun::new(layers, steps).drive(&mut make(config)).expect("a constant rate")
    }

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    /// The definition at hand-worked points, for five blocks and `t_0` of one half.
    #[test]
    fn rates_fall_along_half_a_cosine_to_each_blocks_own_time() {
        let plain = make(r#"{ "embeddings": "train", "scaled": false }"#);
        assert!(
            near(plain.stops_at(0, 5), 0.5)
                && near(plain.stops_at(2, 5), 0.75)
                && near(plain.stops_at(4, 5), 1.0)
        );
        assert!(near(plain.factor(0.0, 0, 5), 1.0) && near(plain.factor(0.25, 0, 5), 0.5));
        assert!(near(plain.factor(0.5, 0, 5), 0.0) && near(plain.factor(0.9, 0, 5), 0.0));
        assert!(near(plain.factor(0.5, 4, 5), 0.5) && near(plain.factor(1.0, 4, 5), 0.0));
        let scaled = make(r#"{ "embeddings": "train" }"#);
        assert!(near(scaled.factor(0.0, 0, 5), 2.0) && near(scaled.factor(0.25, 0, 5), 1.0));
        let cubed = make(r#"{ "embeddings": "train", "cubed": true }"#);
        assert!(near(cubed.stops_at(0, 5), 0.125) && near(cubed.stops_at(4, 5), 1.0));
        assert!(near(cubed.factor(0.0, 0, 5), 8.0));
    }

    /// With `scaled`, the area under every block's factor is the same: all travel as far.
    #[test]
    fn scaled_blocks_travel_as_far_as_any_other() {
        let scaled = make(r#"{ "embeddings": "train", "cubed": true }"#);
        let area = |block| {
            (0..100_000).map(|i| scaled.factor((f64::from(i) + 0.5) / 1e5, block, 4)).sum::<f64>() / 1e5
        };
        for block in 0..4 {
            assert!((area(block) - 0.5).abs() < 1e-6, "block {block}: {}", area(block));
        }
    }

    #[test]
    fn blocks_freeze_from_the_bottom_each_at_its_time() {
        let transcript = drive(r#"{ "embeddings": "freeze", "t_0": 0.4 }"#, 4, 100);
        assert_eq!(transcript.phases(), [(0, "frozen0"), (40, "frozen1"), (60, "frozen2"), (80, "frozen3")]);
        let said = transcript.to_string();
        assert!(said.contains("train blocks 1 2 3, final norm;"), "{said}");
    }

    #[test]
    fn embeddings_go_with_the_lowest_block_or_as_they_did() {
        let factors = |embeddings: &str| {
            let transcript = drive(&format!(r#"{{ "embeddings": "{embeddings}" }}"#), 2, 100);
            let requests = transcript.decisions.into_iter().flat_map(|decision| decision.taken);
            let rates = requests.filter_map(|request| match request {
                Action::Rates(factors) => Some(factors),
                _ => None,
            });
            rates.collect::<Vec<Vec<RateFactor>>>()
        };
        assert_eq!(factors("train")[0].len(), 2);
        let with_lowest = &factors("freeze")[30];
        assert_eq!(with_lowest.len(), 4);
        assert!(with_lowest[0].factor < 1.5 && with_lowest[2].factor == with_lowest[0].factor);
    }

    #[test]
    fn rates_are_set_anew_once_an_interval() {
        let asked = drive(r#"{ "embeddings": "train", "interval": 0.1 }"#, 2, 1000);
        let rates = asked.decisions.iter().filter(|d| d.taken.iter().any(|a| matches!(a, Action::Rates(_))));
        assert_eq!(rates.count(), 10);
    }

    #[test]
    fn interrupted_anywhere_it_decides_as_if_nothing_had_happened() {
        let config = r#"{ "embeddings": "freeze", "interval": 0.05, "cubed": true }"#;
        let run = SimulatedRun::new(4, 200);
        let whole = run.drive(&mut make(config)).expect("a constant rate");
        for step in (0..200).step_by(7) {
            let resumed = run.drive_interrupted(|| plugin::<FreezeOut>(config), step);
            assert_eq!(resumed.expect("a state to go on from"), whole, "interrupted before step {step}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (config, field) in [
            (r#"{ "embeddings": "train", "t_0": 0 }"#, "t_0"),
            (r#"{ "embeddings": "train", "t_0": 1.5 }"#, "t_0"),
            (r#"{ "embeddings": "train", "interval": 0.5 }"#, "interval"),
        ] {
            let error = plugin::<FreezeOut>(config).map(|_| ()).expect_err("refused");
            assert_eq!(error.field(), Some(field), "{config}");
        }
        let mut run = SimulatedRun::new(4, 100);
        run.facts.constant_rate = false;
        let error = run.drive(&mut make(r#"{ "embeddings": "train" }"#)).expect_err("it falls twice");
        assert_eq!(error.field(), Some("falling_rate"));
        let accepting = r#"{ "embeddings": "train", "falling_rate": "accept" }"#;
        run.drive(&mut make(accepting)).expect("it is meant");
    }
}
