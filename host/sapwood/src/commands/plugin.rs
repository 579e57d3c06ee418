//! `sapwood plugin …`: one file a command.

pub(crate) mod build;
mod facts;
pub(crate) mod inspect;
pub(crate) mod install;
pub(crate) mod list;
pub(crate) mod lock;
pub(crate) mod new;
mod numbers;
pub(crate) mod pack;
mod page;
pub(crate) mod sign;
pub(crate) mod validate;

use std::process::ExitCode;

use trainer::ErrorClass;

use crate::Outcome;
use crate::failure::Failed;

/// The child of an isolated plugin.
pub(crate) fn host() -> Outcome {
    let served = plugin_host::isolation::serve();
    served.map_err(|message| {
        Failed::new(ErrorClass::Internal, message, "only the host itself runs this command")
    })?;
    Ok(ExitCode::SUCCESS)
}
