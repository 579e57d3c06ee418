//! `sapwood import` and `sapwood export`: models from and for Hugging Face's `transformers`.

use std::process::ExitCode;

use engine::Tokens;
use trainer::hugging_face::{Import, StoredModel, SunkCost};

use crate::Outcome;
use crate::args::{ExportArgs, ImportArgs};
use crate::output::{json_of, result_line};

pub(crate) fn import(args: &ImportArgs) -> Outcome {
    let sunk_cost = SunkCost { flops: args.sunk_flops, tokens: args.sunk_tokens.map(Tokens) };
    let wanted = Import { vocabulary: args.vocabulary, sunk_cost };
    let (imported, shape) = trainer::hugging_face::import(&args.from, &args.out, &wanted)?;
    if args.json {
        result_line!("{}", json_of(&imported)?);
        return Ok(ExitCode::SUCCESS);
    }
    let parameters = shape.parameters(shape.layers);
    result_line!(
        "{}: {} blocks of width {}, {parameters} parameters",
        args.out.display(),
        shape.layers,
        shape.width
    );
    if imported.added_rows > 0 {
        result_line!("vocabulary: {} rows added, each the mean of the others", imported.added_rows);
    }
    if sunk_cost.is_unknown() {
        result_line!("what it has cost before is not known; --sunk-flops and --sunk-tokens tell");
    }
    result_line!("start a study from it: [initial_model] from = {:?}", args.out);
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn export(args: &ExportArgs) -> Outcome {
    let model = StoredModel::open(&args.checkpoint)?;
    let exported = trainer::hugging_face::export(&model, &args.out)?;
    let shape = exported.shape;
    result_line!(
        "{}: {} blocks of width {}, {} parameters",
        args.out.display(),
        shape.layers,
        shape.width,
        shape.parameters
    );
    result_line!("model.safetensors: sha256 {}", exported.sha256);
    result_line!("tokenizer: {}", exported.tokenizer);
    Ok(ExitCode::SUCCESS)
}
