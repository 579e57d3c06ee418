//! The trainer on the scripted engine: whole runs in milliseconds, with failures on demand.

/// A run's parts, made small, and strategies that do as they are told.
mod bench;
/// Damage by a seed.
#[path = "../../../../tests/fuzz/damage.rs"]
mod damage;
/// Whatever lies in folders of models: read, or refused.
mod damaged;
/// Is every joule of a step counted, and none beside?
mod energy;
/// Bad plugins and failing devices: contained, saved, named.
mod faults;
/// Checkpoints of older and of later versions.
mod formats;
/// Whatever plugins answer: contained.
mod fuzz;
/// Growth, freezing, rejection, and what the decision log says of them.
mod growth;
/// Losses that are no number, where a run may skip such steps.
mod non_finite;
/// Beginning as a copy of another run.
mod prefix;
/// Gates, rates, batches, orders and probes: what a strategy asks for beyond growth and freezing.
mod requests;
/// Going on from a checkpoint, as if nothing had happened.
mod resume;
/// Strategies that ride along, and change nothing.
mod shadows;
/// Suites put to the model while it is trained.
mod suites;
/// Models that become wider.
mod widening;
