//! The binary as a user meets it: whole commands, real plugins, real files. What one crate promises is tested
//! there.

/// A study of seconds, the binary run on it, plugins built for it.
mod support;

/// A plugin's way from `plugin new` to a study, as its author goes it.
mod authors;
/// Libraries that are no plugins, and plugins that misbehave: refused or contained, and named.
mod bad_plugins;
/// In process: who crashed, exited or hung is named, by the same process where it can, else by the next.
mod blame;
/// The table of what plugins may do wrong.
mod cases;
/// Checkpoints listed, verified, pruned.
mod checkpoints;
/// Claims whose owners are gone, and clocks that are wrong.
mod claims;
/// Help and errors word by word: what, where, what to do, and the exit code.
mod cli;
/// A strategy that is a program, in any language.
mod command;
/// Frozen revisions: a golden library, a newer plugin in this host, this plugin in a newer host.
mod compat;
/// Every file in configs/ is a whole study that can be planned.
mod configs;
/// The conformance suite: every plugin passes, every fault is found by name.
mod conformance;
/// Files that are damaged, missing, in the way, or not what they were.
mod damage;
/// Damage by a seed, and the search through seeds.
#[path = "fuzz/damage.rs"]
mod damage_by_seed;
/// The same of studies' tables.
#[path = "fuzz/studies.rs"]
mod damage_of_studies;
/// Texts become tokens, tokens are looked at, a run reads them.
mod data;
/// Where a study computes, and that nothing else does in its place.
mod devices;
/// Two runs compared: bit for bit the same, or where they part.
mod diff;
/// Suites of questions put to a model.
mod evaluations;
/// Strategies that choose what runs in a step.
mod execution;
/// The table of faults in docs/faults.md, which the tests of faults fill.
mod faults;
/// What a GPU machine is asked, in one command and one file.
mod gpu_suite;
/// The guide for authors, followed word by word.
mod guide;
/// Models from and for `transformers`.
mod hugging_face;
/// `isolation = "process"`: the same bits, and what no host can catch in process ends a child and nothing else.
mod isolation;
/// Killed, interrupted, out of disk: run again, it ends as if nothing had happened.
mod kill;
/// Who may know whom, and other absences that hold the design together.
mod layering;
/// What is told of memory is what is taken, and a micro-batch that fits is found.
mod memory;
/// What each method that is shipped promises, on a model that grows.
mod methods;
/// Losses that are no number.
mod numbers;
/// A plugin from outside the workspace, and an initializer swapped by one word.
mod outside;
/// Libraries for several machines in one file.
mod packs;
/// The report's page in a browser.
mod page;
/// Recorded PyTorch runs, replayed through the plugins.
mod parity;
/// What is told before anything runs.
mod plan;
/// Whatever lies in plugins/ is found, inspected and plain safe Rust, without being named.
mod plugins;
/// What arms have in common is trained once.
mod prefixes;
/// Standard output that somebody has closed, and one that is full.
mod printing;
/// A strategy that is asked about a run which is on record.
mod replay;
/// A model that writes.
mod sample;
/// Strategies that ride along: no bit of a run is theirs, and none takes it along.
mod shadows;
/// Completions and manual pages.
mod shell;
/// Libraries that are signed, and studies that want them to be.
mod signature;
/// A study as a job array of Slurm, on two nodes of which one may die.
mod slurm;
/// A study from its first step to its verdict, and again.
mod study;
/// Whatever a study's file says, it is planned or refused.
mod study_files;
/// Suites of questions put to models while they are trained.
mod suites;
/// A learning rate for each arm, looked for with equal trials.
mod sweep;
/// Owners and modes, private copies of libraries, plugins.lock.
mod trust;
/// Stopped again and again, a run ends in the same bytes.
mod verify_resume;
