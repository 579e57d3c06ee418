//! `sapwood plugin install`: a library into the user's own plugin folder, where every study finds it by its id.

use std::process::ExitCode;

use plugin_host::pack;
use plugin_host::{Installed, SearchPath, install as install_library};
use trainer::ErrorClass;

use crate::Outcome;
use crate::args::InstallArgs;
use crate::failure::Failed;
use crate::output::result_line;

use super::facts::{plugin_line, print_facts, print_facts_json};

pub(crate) fn install(args: &InstallArgs) -> Outcome {
    let folder = SearchPath::user_folder().ok_or_else(|| {
        let message = "there is no user's data folder: neither XDG_DATA_HOME nor HOME is set";
        Failed::new(ErrorClass::Config, message, "set HOME to your home folder")
    })?;
    let installed = if args.library.extension().is_some_and(|extension| extension == pack::EXTENSION) {
        let unpacked = tempfile::tempdir()
            .map_err(|error| Failed::new(ErrorClass::Resource, error, "make room for a temporary folder"))?;
        install_library(&pack::unpack(&args.library, unpacked.path())?, &folder)?
    } else {
        install_library(&args.library, &folder)?
    };
    if args.json {
        print_facts_json(&installed.path, &installed.facts, Some(&installed))?;
    } else {
        print_facts(&installed.path, &installed.facts);
        result_line!("\n{}", what_was_there(&installed));
    }
    Ok(ExitCode::SUCCESS)
}

fn what_was_there(installed: &Installed) -> String {
    let Some(replaced) = &installed.replaced else { return "installed; nothing was replaced".into() };
    if replaced.sha256 == installed.sha256 {
        return "these very bytes were installed already".into();
    }
    let plugins: Vec<String> = replaced.plugins.iter().map(plugin_line).collect();
    let was = if plugins.is_empty() { "a file that is no plugin".into() } else { plugins.join(", ") };
    format!("installed; replaced {was} (sha256 {})", replaced.sha256)
}
