//! What the command line says about itself: completions for shells, manual pages.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

pub(super) const COMPLETIONS_HELP: &str = "\
Example: sapwood completions bash > ~/.local/share/bash-completion/completions/sapwood

zsh wants the file as `_sapwood` in a folder of its $fpath, fish as ~/.config/fish/completions/sapwood.fish";

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Whose completions
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

#[derive(Debug, Args)]
pub(crate) struct ManualArgs {
    /// An existing folder; a page for each command is written there, over what it holds
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}
