//! The lines of a run's logs, one JSON object each: `metrics.jsonl`, `evals.jsonl`, `suites.jsonl`, `decisions.jsonl`,
//! `shadows.jsonl`.

use engine::{Flops, Step, Tokens};
use plugin_host::api::{Action, GrowthReceipt, Plan};
use serde::{Deserialize, Deserializer, Serialize};

use crate::SuiteResult;

/// A step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// Its number, counted from 0.
    pub step: Step,
    /// Tokens trained on, this step's included.
    pub tokens: Tokens,
    /// Exact FLOPs spent, this step's included.
    pub flops: Flops,
    /// Mean loss in nats per token, before the update; `null` in the file where it is not finite.
    #[serde(deserialize_with = "number_or_null")]
    pub loss_nats_per_token: f64,
    /// L2 norm of the gradient, before clipping; `null` in the file where it is not finite.
    #[serde(deserialize_with = "number_or_null")]
    pub gradient_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Blocks.
    pub depth: usize,
    /// Phase.
    pub phase: String,
    /// Why its update was not made, where it was not: `the loss is NaN`, say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// JSON has no word for what is no number.
fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// An evaluation on the validation tokens, and what the run had cost until then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvaluationRecord {
    /// Steps taken before it.
    pub step: Step,
    /// Tokens trained on before it.
    pub tokens: Tokens,
    /// Exact FLOPs spent before it.
    pub flops: Flops,
    /// The same in matrix products with weights alone.
    pub flops_weight_matmul: Flops,
    /// The same by the paper's cost model.
    pub flops_li2024: Flops,
    /// Seconds of training alone before it.
    pub wall_seconds: f64,
    /// What the machine has used while it trained; `None` where that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// Mean loss in nats per token.
    pub loss_nats_per_token: f64,
    /// Chained hash of all batches trained on before it: equal hashes, equal data in equal order.
    pub batches_sha256: String,
    /// Blocks.
    pub depth: usize,
    /// Phase.
    pub phase: String,
}

/// What a suite came to, put to the model of that moment. No clock is in it: the same run has the same lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteRecord {
    /// Steps taken before it.
    pub step: Step,
    /// Tokens trained on before it.
    pub tokens: Tokens,
    /// Exact FLOPs spent before it; a suite's own are charged to nobody.
    pub flops: Flops,
    /// The suite's name.
    pub suite: String,
    /// What came of it.
    #[serde(flatten)]
    pub result: SuiteResult,
    /// Blocks.
    pub depth: usize,
    /// Phase.
    pub phase: String,
}

/// An entry of the decision log: nothing grows, freezes or changes its rate but through here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// What the strategy said before the first step.
    Planned {
        /// The plan.
        plan: Plan,
    },
    /// What a strategy asked for before a step, all of it taken.
    Requested {
        /// The coming step.
        step: Step,
        /// Tokens trained on so far.
        tokens: Tokens,
        /// Exact FLOPs spent so far.
        flops: Flops,
        /// The requests, in order.
        requests: Vec<Action>,
    },
    /// What came of a probe.
    Probed {
        /// The coming step.
        step: Step,
        /// Of each candidate, the training loss of each step in nats per token.
        losses: Vec<Vec<f64>>,
        /// Exact FLOPs spent so far, the probe's included.
        flops: Flops,
    },
    /// A request that was refused.
    Refused {
        /// The coming step.
        step: Step,
        /// The request in words, cut where it is long: what is refused may hold numbers that JSON has no
        /// word for.
        request: String,
        /// Why.
        reason: String,
    },
    /// The audit of a change of the stack.
    Edited(GrowthReceipt),
    /// The strategy took the change back.
    Rejected {
        /// The coming step.
        step: Step,
        /// Why.
        reason: String,
    },
    /// A phase begins.
    PhaseStarted {
        /// The coming step.
        step: Step,
        /// Its label.
        label: String,
        /// The stack, from the embeddings up.
        layers: Vec<engine::LayerId>,
        /// Every tensor that trains.
        trainable: Vec<String>,
        /// The lowest block whose input gets a gradient; `None` where gradients reach the embeddings.
        gradients_stop_below: Option<engine::LayerId>,
    },
    /// The audit of a phase that is over.
    PhaseEnded(PhaseAudit),
    /// The strategy ended the run.
    Stopped {
        /// The step that did not come.
        step: Step,
        /// Why.
        reason: String,
    },
}

/// A request that is refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedRequest {
    /// The request in words, cut where it is long.
    pub request: String,
    /// Why.
    pub reason: String,
}

/// What a shadow strategy does: nothing of it is ever carried out. One that is silent leaves no line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowRecord {
    /// The coming step.
    pub step: Step,
    /// Its id; `#2` behind it for the second of that id, and so on.
    pub shadow: String,
    /// What it does.
    #[serde(flatten)]
    pub said: ShadowSaid,
}

/// What a shadow strategy does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "kebab-case")]
pub enum ShadowSaid {
    /// It rides along from here on.
    Began {
        /// Its version.
        version: String,
        /// Hash of its library.
        sha256: String,
        /// Its configuration.
        config: serde_json::Value,
        /// What its own run would look like.
        plan: Plan,
    },
    /// It would ask for something.
    Asked {
        /// What the run would take, in order.
        requests: Vec<Action>,
        /// What it would refuse.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refused: Vec<RefusedRequest>,
        /// What it answers where it insists on what is refused: its own run would end here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gave_up: Option<String>,
    },
    /// It was shown the receipt of an edit that it had asked for too.
    Judged {
        /// Why it would take the edit back; `None` where it would keep it.
        rejected: Option<String>,
    },
    /// It has failed, and rides along no longer.
    Dropped {
        /// How.
        reason: String,
    },
}

/// What moved in a phase, and what did not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PhaseAudit {
    /// The phase.
    pub label: String,
    /// Its first step.
    pub first_step: Step,
    /// The step after its last.
    pub end_step: Step,
    /// Tensors that trained and moved.
    pub moved: usize,
    /// Tensors that trained, but are bit-identical to what they were.
    pub trained_but_unmoved: Vec<String>,
    /// Tensors that were frozen.
    pub frozen: usize,
    /// Whether every frozen tensor, its moments and its step counter are bit-identical.
    pub frozen_bit_identical: bool,
}
