//! The versions of `state.json`: which are read, and how an older one becomes today's.
//!
//! A checkpoint of a later version is no damaged one. Passing over it for an older one would throw steps away, so a run
//! ends at it with an error.

use std::path::Path;

use engine::ModelShape;
use plugin_host::bounded;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::state_file::StateFile;
use crate::TrainError;
use crate::course::Course;
use crate::storage::{LARGEST_JSON_BYTES, failing};

/// Version that is written. A field that comes, goes or changes raises it, and has its migration below.
pub(super) const FORMAT_VERSION: u32 = 3;
/// Makes the fields of a version those of the next.
type Migration = fn(&mut Map<String, Value>, &ModelShape);
/// From each older version that is read, the oldest first.
const MIGRATIONS: [Migration; 1] = [to_3];
/// The oldest that is read.
const OLDEST_VERSION: u32 = FORMAT_VERSION - MIGRATIONS.len() as u32;

/// All of `state.json` that every version has.
#[derive(Deserialize)]
struct Versioned {
    format_version: u32,
}

/// Reads a checkpoint's `state.json` of any version that is known; of what else the folder holds nothing is looked at.
///
/// # Errors
/// A file that is missing, damaged, or of another version.
pub(super) fn read_state(folder: &Path, shape: &ModelShape) -> Result<(StateFile, Course), TrainError> {
    let path = folder.join("state.json");
    let damaged = |reason: String| TrainError::Damaged { path: path.clone(), reason };
    let unread = |error: serde_json::Error| damaged(format!("cannot be read: {error}"));
    let bytes = bounded::read(&path, LARGEST_JSON_BYTES).map_err(failing("read", &path))?;
    let Versioned { format_version } = serde_json::from_slice(&bytes).map_err(unread)?;
    let file: StateFile = match format_version {
        FORMAT_VERSION => serde_json::from_slice(&bytes).map_err(unread)?,
        OLDEST_VERSION..FORMAT_VERSION => {
            let mut fields = serde_json::from_slice(&bytes).map_err(unread)?;
            let first = (format_version - OLDEST_VERSION) as usize;
            for migrate in &MIGRATIONS[first..] {
                migrate(&mut fields, shape);
            }
            serde_json::from_value(Value::Object(fields)).map_err(unread)?
        }
        found => {
            let known = (OLDEST_VERSION, FORMAT_VERSION);
            return Err(TrainError::OtherFormat { path, found, known });
        }
    };
    file.check_names().and_then(|()| file.check_blocks()).map_err(damaged)?;
    let course =
        file.course(shape).ok_or_else(|| damaged("names a tensor that the model does not have".into()))?;
    Ok((file, course))
}

/// Until version 2 a model became wider in its hidden layers alone, and at first not at all.
fn to_3(fields: &mut Map<String, Value>, shape: &ModelShape) {
    let mut widths = json!(shape.widths());
    if let Some(mlp_width) = fields.remove("mlp_width") {
        widths["mlp_width"] = mlp_width;
    }
    fields.insert("widths".into(), widths);
}
