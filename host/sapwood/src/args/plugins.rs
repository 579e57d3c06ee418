//! What is done with plugins.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use plugin_host::api::Kind;

use super::PluginPath;

#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// Begin a plugin: a crate of its own, with a small one that works and its test
    #[command(
        after_help = "Example: sapwood plugin new plateau --kind strategy --sdk sapwood/plugin-api\n\n\
                      Exit codes: 0 written · 3 the name, the folder or the --sdk will not do · 8 disk"
    )]
    New(NewArgs),
    /// Build a plugin's crate, and show the library and its facts
    #[command(after_help = "Example: sapwood plugin build plateau\n\n\
                      Exit codes: 0 built · 3 no plugin's crate is there · 5 the library is refused · \
                      6 it does not build · 8 there is no cargo")]
    Build(BuildArgs),
    /// Copy a library into the user's plugin folder, where every study finds it; runs none of its code
    #[command(after_help = "Example: sapwood plugin install plateau/target/release/libplateau.so\n\n\
                      Exit codes: 0 installed · 3 there is no user's folder · 5 the library is refused · 8 disk")]
    Install(InstallArgs),
    /// Put libraries for several machines into one file, which `install` takes the right one from
    #[command(
        after_help = "Example: sapwood plugin pack x86/libmine.so arm/libmine.so --out mine.sapwood-pack"
    )]
    Pack(PackArgs),
    /// List all plugins on the search path; runs none of their code
    #[command(after_help = "Example: sapwood plugin list --plugin-path ./plugins")]
    List(ListArgs),
    /// Show a plugin's facts and what its configuration takes
    #[command(
        after_help = "Example: sapwood plugin inspect sapwood/paper\n         sapwood plugin inspect ./libmine.so"
    )]
    Inspect(InspectArgs),
    /// Put a library through the conformance suite, each question in a process of its own
    #[command(
        after_help = "Example: sapwood plugin validate ./libmine.so --config '{\"every_steps\": 10}'\n\n\
                      The certificate of a whole examination is kept in ~/.local/share/sapwood/certificates by the\n\
                      library's sha256; runs of these bytes record what it came to.\n\
                      Exit codes: 0 all plugins passed · 5 the library is refused · 6 a plugin failed"
    )]
    Validate(ValidateArgs),
    /// Write down which library each plugin of a study is, by sha256, for `--locked`
    #[command(after_help = "Example: sapwood plugin lock configs/quickstart.toml --out quickstart.lock\n\n\
                      `study`, `train`, `plan` and `verify-resume` take `--locked`: they then refuse any other library, with exit code 5")]
    Lock(LockArgs),
    /// Sign a library, so that others can see that it is yours; or make a key to sign with
    #[command(after_help = "Example: sapwood plugin sign --new-key ~/me.key\n         \
                      sapwood plugin sign libmine.so --key ~/me.key")]
    Sign(SignArgs),
    /// Tell whose signature a library bears
    #[command(after_help = "Example: sapwood plugin verify libmine.so --key me.key.pub\n\n\
                      Without a key, those in ~/.config/sapwood/trusted-keys (*.pub) are tried, as `--signed` does.\n\
                      Exit codes: 0 a good signature · 5 none")]
    Verify(VerifyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SignArgs {
    /// The library's file; the signature goes beside it, as FILE.minisig
    #[arg(required_unless_present = "new_key", requires = "key")]
    pub(crate) library: Option<PathBuf>,
    /// The secret key, as `--new-key` or minisign makes it
    #[arg(long, value_name = "FILE", conflicts_with = "new_key")]
    pub(crate) key: Option<PathBuf>,
    /// Make a secret key in this file, and its public one in FILE.pub
    #[arg(long, value_name = "FILE", conflicts_with = "library")]
    pub(crate) new_key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The library's file; its signature lies beside it, as FILE.minisig
    pub(crate) library: PathBuf,
    /// The public key [default: all that are trusted]
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct NewArgs {
    /// The crate's name, and the second half of the plugin's id
    pub(crate) name: String,
    /// What it is to be
    #[arg(long, value_enum)]
    pub(crate) kind: KindName,
    /// The first half of the plugin's id
    #[arg(long, default_value = "me")]
    pub(crate) author: String,
    /// The folder to make [default: NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,
    /// Depend on the sapwood-plugin in this folder (`plugin-api` of sapwood's sources) [default: by version]
    #[arg(long, value_name = "DIR")]
    pub(crate) sdk: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    /// Decides when and where to grow, and what trains
    Strategy,
    /// Fills in the values of new blocks
    Initializer,
    /// Watches
    Reporter,
}

impl KindName {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            KindName::Strategy => "growth strategy",
            KindName::Initializer => "layer initializer",
            KindName::Reporter => "metric reporter",
        }
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            KindName::Strategy => Kind::Strategy,
            KindName::Initializer => Kind::Initializer,
            KindName::Reporter => Kind::Reporter,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// The crate's folder [default: this one]
    #[arg(value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PackArgs {
    /// The libraries' files, one for each target
    #[arg(required = true)]
    pub(crate) libraries: Vec<PathBuf>,
    /// The pack's file, NAME.sapwood-pack
    #[arg(long, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// The library's file, or a pack's (NAME.sapwood-pack)
    pub(crate) library: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LockArgs {
    /// The study's file
    pub(crate) file: PathBuf,
    /// Where to write [default: plugins.lock beside the file]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}

#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// The library's file
    pub(crate) library: PathBuf,
    /// Only the plugin of this id [default: all of the library's]
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Ask only this question; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) question: Vec<String>,
    /// Its configuration, as JSON [default: the first example of its schema, else {}]
    #[arg(long, value_name = "JSON")]
    pub(crate) config: Option<String>,
    /// Print the certificate, JSON that is bound to the library's sha256
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the certificate into this file
    #[arg(long, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
    /// Beside the suite, tell each plugin nonsense for so many seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) fuzz: Option<u64>,
    /// The first case of the nonsense; a failure names its own, to be tried again with `--fuzz 0`
    #[arg(long, default_value_t = 1, value_name = "N", requires = "fuzz")]
    pub(crate) seed: u64,
    /// Seconds after which a question counts as never answered
    #[arg(long, default_value_t = 60, value_name = "N")]
    pub(crate) seconds: u64,
}

/// One question of the conformance suite, as the asking process passes it on.
#[derive(Debug, Args)]
pub(crate) struct QuestionArgs {
    pub(crate) library: PathBuf,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) question: String,
    pub(crate) config: String,
    pub(crate) folder: PathBuf,
    pub(crate) fuzz_seconds: Option<u64>,
    pub(crate) fuzz_seed: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A plugin's id (`author/name`) or a library's file
    pub(crate) plugin: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Print a page in Markdown: what it is, where its method comes from, what it takes
    #[arg(long, conflicts_with = "json")]
    pub(crate) markdown: bool,
    /// Add to the page what this study found, which has to be finished in its usual folder
    #[arg(long = "study", value_name = "FILE", requires = "markdown")]
    pub(crate) studies: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) plugins: PluginPath,
}
