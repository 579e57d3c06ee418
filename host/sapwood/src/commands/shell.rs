//! `sapwood completions` and the hidden `sapwood manual`: both are drawn from the arguments, and cannot fall behind them.

use std::process::ExitCode;

use clap::builder::Resettable;
use clap::{Command, CommandFactory};
use clap_complete::shells;
use trainer::ErrorClass;

use crate::Outcome;
use crate::args::{Arguments, CompletionsArgs, ManualArgs, Shell};
use crate::failure::Failed;
use crate::output::{self, result_line};

pub(crate) fn completions(args: &CompletionsArgs) -> Outcome {
    let mut script = Vec::new();
    let mut command = shown();
    match args.shell {
        Shell::Bash => clap_complete::generate(shells::Bash, &mut command, "sapwood", &mut script),
        Shell::Zsh => clap_complete::generate(shells::Zsh, &mut command, "sapwood", &mut script),
        Shell::Fish => clap_complete::generate(shells::Fish, &mut command, "sapwood", &mut script),
    }
    output::piece(&script);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn manual(args: &ManualArgs) -> Outcome {
    clap_mangen::generate_to(shown(), &args.folder).map_err(|error| {
        Failed::new(
            ErrorClass::Resource,
            format!("the manual cannot be written to {}: {error}", args.folder.display()),
            "name an existing folder that you may write to",
        )
    })?;
    result_line!("the manual's pages are in {}", args.folder.display());
    Ok(ExitCode::SUCCESS)
}

/// The command line without what is hidden: the generators for shells would offer it.
fn shown() -> Command {
    let all = Arguments::command();
    let open = all.get_subcommands().filter(|command| !command.is_hide_set());
    Command::new("sapwood")
        .version(env!("CARGO_PKG_VERSION"))
        .about(Resettable::from(all.get_about().cloned()))
        .long_about(Resettable::from(all.get_long_about().cloned()))
        .after_help(Resettable::from(all.get_after_help().cloned()))
        .args(all.get_arguments())
        .subcommands(open.cloned())
}
