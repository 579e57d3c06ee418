//! What a strategy did over a simulated run, to be compared or read.

use std::fmt;

use crate::{Above, Action, Batch, Gate, LayerId, Pass, Plan, Probe, RateFactor, Replace, Widen};

/// What a strategy did over a [`SimulatedRun`](super::SimulatedRun).
#[derive(Clone, Debug, PartialEq)]
pub struct Transcript {
    /// Its plan.
    pub plan: Plan,
    /// The steps before which it asked for something.
    pub decisions: Vec<Decision>,
    /// Blocks in each step that was taken.
    pub depths: Vec<usize>,
    /// The stack at the end, from the embeddings up.
    pub layers: Vec<LayerId>,
    /// Why it ended the run, if it did.
    pub stopped: Option<String>,
}

/// What a strategy asked for before a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The step.
    pub step: u64,
    /// What the host's rules let pass, in order.
    pub taken: Vec<Action>,
    /// What they did not, with the reason.
    pub refused: Vec<(Action, String)>,
    /// Why the strategy took its edit back, if it did; then nothing of it was carried out.
    pub rejected: Option<String>,
}

impl Transcript {
    /// Everything that was refused, with the step and the reason.
    pub fn refusals(&self) -> impl Iterator<Item = (u64, &Action, &str)> {
        self.decisions.iter().flat_map(|decision| {
            let refused = decision.refused.iter();
            refused.map(|(action, reason)| (decision.step, action, reason.as_str()))
        })
    }

    /// All phases that began: their first step and label.
    pub fn phases(&self) -> Vec<(u64, &str)> {
        let mut phases = Vec::new();
        for decision in self.decisions.iter().filter(|decision| decision.rejected.is_none()) {
            for action in &decision.taken {
                if let Action::Phase(label) = action {
                    phases.push((decision.step, label.as_str()));
                }
            }
        }
        phases
    }
}

/// One line a decision, for snapshots.
impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "starts with {} of at most {} blocks", self.plan.initial_depth, self.plan.deepest)?;
        for decision in &self.decisions {
            let mut said: Vec<String> = decision.taken.iter().map(in_words).collect();
            let refused = decision.refused.iter();
            said.extend(refused.map(|(action, reason)| format!("{} (refused: {reason})", in_words(action))));
            if let Some(reason) = &decision.rejected {
                said.push(format!("taken back: {reason}"));
            }
            writeln!(f, "before step {}: {}", decision.step, said.join("; "))?;
        }
        let layers: Vec<String> = self.layers.iter().map(ToString::to_string).collect();
        write!(f, "ends after {} steps with blocks {}", self.depths.len(), layers.join(" "))?;
        match &self.stopped {
            Some(reason) => writeln!(f, ": {reason}"),
            None => writeln!(f),
        }
    }
}

fn in_words(action: &Action) -> String {
    let list = |layers: &[LayerId]| layers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match action {
        Action::Insert(insert) => {
            let above = match insert.above {
                Above::Embedding => "the embedding".to_owned(),
                Above::Layer(layer) => layer.to_string(),
            };
            let from = if insert.sources.is_empty() {
                String::new()
            } else {
                format!(" from {}", list(&insert.sources))
            };
            format!("insert {} above {above} for {}{from}", insert.count, insert.slot)
        }
        Action::Remove(layers) => format!("remove {}", list(layers)),
        Action::Train(train) => {
            let shared = [
                (train.token_embedding, "token embedding"),
                (train.position_embedding, "position embedding"),
                (train.final_norm, "final norm"),
                (train.head, "head"),
            ];
            let shared = shared.iter().filter(|(trains, _)| *trains).map(|(_, name)| (*name).to_owned());
            let classes = train.classes.iter().map(|classes| format!("only {}", classes.join(" ")));
            let blocks = std::iter::once(format!("blocks {}", list(&train.layers)));
            format!("train {}", blocks.chain(classes).chain(shared).collect::<Vec<_>>().join(", "))
        }
        Action::Optimizer(rule) => format!("optimizer {:?} of {:?}", rule.change, rule.which),
        Action::Schedule(change) => format!("schedule {change:?}"),
        Action::Evaluate => "evaluate".into(),
        Action::Checkpoint(name) => format!("checkpoint `{name}`"),
        Action::Stop(reason) => format!("stop: {reason}"),
        Action::Phase(label) => format!("phase `{label}`"),
        Action::Metric { key, value } => format!("metric {key} = {value}"),
        Action::Accept => "accept".into(),
        Action::Reject(reason) => format!("reject: {reason}"),
        Action::Replace(replace) => {
            let Replace { layers, slot, sources, .. } = replace;
            let from = if sources.is_empty() { String::new() } else { format!(" from {}", list(sources)) };
            format!("replace {} for {slot}{from}", list(layers))
        }
        Action::Execute(passes) => {
            format!("execute {}", passes.iter().map(pass_in_words).collect::<Vec<_>>().join(" "))
        }
        Action::ExecuteWholeStack => "execute the whole stack".into(),
        Action::Permute(layers) => format!("permute to {}", list(layers)),
        Action::Gate(gates) => {
            let gate = |Gate { layer, attention, mlp }: &Gate| format!("{layer}({attention} {mlp})");
            format!("gate {}", gates.iter().map(gate).collect::<Vec<_>>().join(" "))
        }
        Action::Rates(factors) => {
            let factor = |RateFactor { which, factor }: &RateFactor| format!("{factor} of {which:?}");
            format!("rates {}", factors.iter().map(factor).collect::<Vec<_>>().join(", "))
        }
        Action::Widen(Widen { widths, slot, .. }) => {
            format!("widen to {widths} for {slot}")
        }
        Action::Batch(Batch { sequences, length }) => format!("batch {sequences} x {length}"),
        Action::Probe(Probe { candidates, steps }) => {
            let candidate = |actions: &Vec<Action>| {
                format!("[{}]", actions.iter().map(in_words).collect::<Vec<_>>().join("; "))
            };
            let candidates = candidates.iter().map(candidate).collect::<Vec<_>>().join(" ");
            format!("probe for {steps} steps {candidates}")
        }
    }
}

/// The block, with its gates where one is not 1, and `n/m` where n of m sequences pass through it.
fn pass_in_words(pass: &Pass) -> String {
    let Pass { layer, attention_gate, mlp_gate, sequences } = pass;
    let gates = if (*attention_gate, *mlp_gate) == (1.0, 1.0) {
        String::new()
    } else {
        format!("(gates {attention_gate} {mlp_gate})")
    };
    let through =
        |mask: &Vec<bool>| format!("({}/{})", mask.iter().filter(|&&runs| runs).count(), mask.len());
    format!("{layer}{gates}{}", sequences.as_ref().map(through).unwrap_or_default())
}
