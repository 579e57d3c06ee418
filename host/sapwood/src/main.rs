//! The binary: reads arguments, picks the engine, prints results to standard output and everything else
//! to standard error, and turns errors into exit codes.

mod allocator;
mod args;
mod commands;
mod culprits;
mod device;
mod engines;
mod failure;
mod log;
mod output;
mod requests;
mod suites;
mod texts;

use std::process::ExitCode;

use clap::Parser;

use args::{Arguments, Command, PluginCommand};
use failure::Failed;

fn main() -> ExitCode {
    let outcome = match Arguments::try_parse() {
        Ok(arguments) => obey(arguments),
        Err(said) => Ok(output::usage(&said)),
    };
    // A command that failed says why it did, not what could not be printed before.
    let outcome = outcome.and_then(|code| output::flush().map(|()| code));
    match outcome {
        Ok(code) => code,
        Err(failed) => failed.print(),
    }
}

fn obey(arguments: Arguments) -> Outcome {
    if calls_plugins(&arguments.command) {
        culprits::watch();
    }
    let outcome = run(arguments);
    plugin_host::blame::end();
    outcome
}

fn run(arguments: Arguments) -> Outcome {
    let verbose = arguments.verbose;
    if trains(&arguments.command) {
        allocator::keep_few_arenas();
    }
    match arguments.command {
        Command::Study(args) => commands::study::study(&args, verbose),
        Command::Train(args) => commands::study::train(&args, verbose),
        Command::Plan(args) => commands::plan::plan(&args),
        Command::Report(args) => commands::report::report(&args),
        Command::Plugin(PluginCommand::New(args)) => commands::plugin::new::new(&args),
        Command::Plugin(PluginCommand::Build(args)) => commands::plugin::build::build(&args),
        Command::Plugin(PluginCommand::Install(args)) => commands::plugin::install::install(&args),
        Command::Plugin(PluginCommand::List(args)) => commands::plugin::list::list(&args),
        Command::Plugin(PluginCommand::Inspect(args)) => commands::plugin::inspect::inspect(&args),
        Command::Plugin(PluginCommand::Validate(args)) => commands::plugin::validate::validate(&args),
        Command::Plugin(PluginCommand::Lock(args)) => commands::plugin::lock::lock(&args),
        Command::Plugin(PluginCommand::Pack(args)) => commands::plugin::pack::pack(&args),
        Command::Plugin(PluginCommand::Sign(args)) => commands::plugin::sign::sign(&args),
        Command::Plugin(PluginCommand::Verify(args)) => commands::plugin::sign::verify(&args),
        Command::PluginHost => commands::plugin::host(),
        Command::PluginQuestion(args) => commands::plugin::validate::question(&args),
        Command::Status(args) => commands::status::status(&args),
        Command::Diff(args) => commands::diff::diff(&args),
        Command::Replay(args) => commands::replay::replay(&args),
        Command::Data(command) => commands::data::data(&command),
        Command::Import(args) => commands::hugging_face::import(&args),
        Command::Export(args) => commands::hugging_face::export(&args),
        Command::Sample(args) => commands::sample::sample(&args),
        Command::Eval(args) => commands::eval::eval(&args),
        Command::Watch(args) => commands::watch::watch(&args),
        Command::Checkpoint(command) => commands::checkpoint::checkpoint(&command),
        Command::VerifyResume(args) => commands::verify_resume::verify_resume(&args),
        Command::Parity(args) => commands::parity::parity(&args, verbose),
        Command::Bench(args) => commands::bench::bench(&args),
        Command::Doctor(args) => commands::doctor::doctor(&args),
        Command::Completions(args) => commands::shell::completions(&args),
        Command::Manual(args) => commands::shell::manual(&args),
    }
}

/// Whether plugins run in this very process.
fn calls_plugins(command: &Command) -> bool {
    matches!(
        command,
        Command::Study(_)
            | Command::Train(_)
            | Command::Plan(_)
            | Command::VerifyResume(_)
            | Command::Replay(_)
            | Command::Parity(_)
            | Command::Plugin(PluginCommand::Inspect(_))
    )
}

/// Commands whose runs come and go.
fn trains(command: &Command) -> bool {
    matches!(command, Command::Study(_) | Command::Train(_) | Command::VerifyResume(_))
}

/// What a command answers: an exit code, or a failure that is printed.
type Outcome = Result<ExitCode, Failed>;
