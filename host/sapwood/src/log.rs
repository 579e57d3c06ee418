//! The log goes to a file, so that the terminal stays quiet.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use trainer::ErrorClass;

use crate::failure::Failed;

/// Logs into `sapwood.log` of that folder, from here on.
pub(crate) fn into_folder(folder: &Path, verbose: u8) -> Result<(), Failed> {
    let path = folder.join("sapwood.log");
    let opened = std::fs::create_dir_all(folder)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(&path));
    let file = opened.map_err(|error| {
        let message = format!("cannot write {}: {error}", path.display());
        Failed::new(
            ErrorClass::Resource,
            message,
            "check the path and its permissions, or choose another `--out`",
        )
    })?;
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Mutex::new(file)).with_ansi(false);
    // A second call in one process keeps the first log.
    let _ = subscriber.try_init();
    Ok(())
}
