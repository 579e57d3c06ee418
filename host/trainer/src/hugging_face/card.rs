//! The card of a model (README.md): what it is, what made it, what it has cost, how it grew. Every line is read from a
//! run's files; what is not known is not said.

use std::fmt::Write;

use engine::Flops;
use plugin_host::Provenance;

use super::import::{Imported, SunkCost};
use super::{Origin, StoredModel};
use crate::checkpoint::RunState;
use crate::folder::RunFolder;
use crate::folder::records::{Decision, EvaluationRecord};
use crate::storage::read_json_lines;
use crate::{RunFile, TrainError};

/// Writing to a text cannot fail.
macro_rules! line {
    ($text:expr, $($what:tt)*) => { { let _ = writeln!($text, $($what)*); } };
}

pub(super) fn render(model: &StoredModel, sha256: &str, tokenizer: &str) -> Result<String, TrainError> {
    let mut text = String::from(
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [gpt2, sapwood]\n---\n\n",
    );
    let shape = &model.shape;
    line!(
        text,
        "# A GPT-2 of {} blocks\n\nWritten by `sapwood export` {}.\n",
        shape.layers,
        env!("CARGO_PKG_VERSION")
    );
    line!(text, "| what | value |\n| --- | --- |");
    line!(text, "| blocks, width, heads | {}, {}, {} |", shape.layers, shape.width, shape.heads);
    line!(text, "| context, vocabulary | {}, {} |", shape.context, shape.vocabulary);
    line!(text, "| parameters, the tied head counted once | {} |", shape.parameters(shape.layers));
    line!(text, "| model.safetensors, sha256 | `{sha256}` |");
    line!(text, "| tokenizer | {tokenizer} |");
    match &model.origin {
        Origin::Run { folder, file, state, .. } => of_run(&mut text, folder, file, state)?,
        Origin::Folder { imported, .. } => of_import(&mut text, imported.as_deref()),
    }
    Ok(text)
}

fn of_run(text: &mut String, folder: &RunFolder, file: &RunFile, state: &RunState) -> Result<(), TrainError> {
    let (config, costs) = (&file.config, &state.costs);
    // STUDY/runs/ARM/BUDGET/seed-N
    let study = folder.path().ancestors().nth(4).and_then(|study| study.file_name());
    if let Some(study) = study {
        line!(text, "| study | {} |", study.to_string_lossy());
    }
    line!(text, "| run | {} |", config.name());
    line!(text, "| seed | {} |", config.seed);
    line!(text, "| steps | {} |", state.step);
    line!(text, "| tokens | {} |", costs.tokens);
    line!(text, "| FLOPs, exact | {} |", costs.flops.total().0);
    match last_loss(folder, state)? {
        Some(loss) => line!(text, "| validation loss, nats per token | {loss} |"),
        None => line!(text, "| validation loss | not evaluated yet |"),
    }
    line!(text, "| data, sha256 | `{}` |", file.bound_to.data_sha256);
    for Provenance { id, version, sha256, .. } in &file.bound_to.plugins {
        line!(text, "| plugin {id} {version}, sha256 | `{sha256}` |");
    }
    line!(text, "| engine | {}, {} |", file.bound_to.engine, file.made_by.device);
    if let Some(sha256) = &file.bound_to.initial_model_sha256 {
        line!(text, "| began from a model with sha256 | `{sha256}` |");
    }
    if let Some(imported) = &file.initial_model {
        sunk(text, &imported.sunk_cost, Some(costs.flops.total()));
    }
    if !state.course.gates.is_empty() {
        line!(text, "| gates | multiplied into the last maps of {} blocks |", state.course.gates.len());
    }
    growth(text, folder, state)
}

/// The newest evaluation that is not newer than the checkpoint.
fn last_loss(folder: &RunFolder, state: &RunState) -> Result<Option<f64>, TrainError> {
    let path = folder.evaluations_file();
    if !path.is_file() {
        return Ok(None);
    }
    let all: Vec<EvaluationRecord> = read_json_lines(&path)?;
    Ok(all.iter().rfind(|record| record.step <= state.step).map(|record| record.loss_nats_per_token))
}

fn growth(text: &mut String, folder: &RunFolder, state: &RunState) -> Result<(), TrainError> {
    let mut kept = Vec::new();
    for decision in read_json_lines(&folder.decisions_file())? {
        match decision {
            Decision::Edited(receipt) if receipt.step <= state.step.0 => kept.push(receipt),
            Decision::Rejected { step, .. } if step <= state.step => drop(kept.pop()),
            _ => {}
        }
    }
    if kept.is_empty() {
        line!(text, "\nIt was trained whole: no block was added or taken away.");
        return Ok(());
    }
    line!(
        text,
        "\n## How it grew\n\n| step | blocks | loss before | loss after |\n| --- | --- | --- | --- |"
    );
    for receipt in kept {
        let (before, after) = (receipt.depth_before, receipt.depth_after);
        line!(
            text,
            "| {} | {before} -> {after} | {:.4} | {:.4} |",
            receipt.step,
            receipt.loss_before,
            receipt.loss_after
        );
    }
    Ok(())
}

fn of_import(text: &mut String, imported: Option<&Imported>) {
    let Some(imported) = imported else { return };
    line!(text, "| imported from | {} |", imported.from);
    for file in &imported.files {
        line!(text, "| {}, sha256 | `{}` |", file.name, file.sha256);
    }
    if imported.added_rows > 0 {
        line!(
            text,
            "| rows added to the vocabulary, each the mean of the others | {} |",
            imported.added_rows
        );
    }
    sunk(text, &imported.sunk_cost, None);
}

/// What the model had cost before; and, after a run, with what the run has cost.
fn sunk(text: &mut String, cost: &SunkCost, own: Option<Flops>) {
    if let Some(flops) = cost.flops {
        line!(text, "| FLOPs before it was imported, as its importer says | {} |", flops.0);
        if let Some(own) = own {
            line!(text, "| FLOPs, those before included | {} |", (flops + own).0);
        }
    }
    if let Some(tokens) = cost.tokens {
        line!(text, "| tokens before it was imported, as its importer says | {tokens} |");
    }
}
