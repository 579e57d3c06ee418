//! `sapwood plugin sign` and `verify`, and what `--signed` does.

use std::process::ExitCode;

use plugin_host::signature::{self, Signed};
use plugin_host::{PluginError, bounded};
use serde_json::json;
use study::Lab;
use trainer::ErrorClass;

use super::facts::print_json;
use crate::Outcome;
use crate::args::{FileArgs, SignArgs, VerifyArgs};
use crate::failure::Failed;
use crate::output::result_line;

pub(crate) fn sign(args: &SignArgs) -> Outcome {
    match (&args.new_key, &args.library, &args.key) {
        (Some(secret), _, _) => {
            let public = signature::new_key(secret)?;
            if args.json {
                print_json(&json!({ "secret_key": secret, "public_key": public }))?;
                return Ok(ExitCode::SUCCESS);
            }
            result_line!("secret key: {} (keep it to yourself)", secret.display());
            result_line!("public key: {} (give it to whoever is to trust you)", public.display());
        }
        (None, Some(library), Some(key)) => {
            let signature = signature::sign(library, key)?;
            if args.json {
                print_json(&json!({ "library": library, "signature": signature }))?;
                return Ok(ExitCode::SUCCESS);
            }
            result_line!("signature: {}", signature.display());
        }
        _ => {
            let message = "the arguments name no library with a key";
            return Err(Failed::new(ErrorClass::Internal, message, "please report this"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn verify(args: &VerifyArgs) -> Outcome {
    let keys = match &args.key {
        Some(key) => vec![signature::public_key(key)?],
        None => signature::trusted_keys()?,
    };
    let bytes = bounded::read(&args.library, bounded::LARGEST_LIBRARY_BYTES).map_err(|error| {
        PluginError::Refused {
            path: args.library.clone(),
            reason: format!("cannot be read: {error}"),
            hint: "check the path and its permissions".into(),
        }
    })?;
    let Signed { by, comment } = signature::verify(&args.library, &bytes, &keys)?;
    if args.json {
        print_json(&json!({ "library": args.library, "signed_by": by, "comment": comment }))?;
        return Ok(ExitCode::SUCCESS);
    }
    result_line!("{} is signed by `{by}` ({comment})", args.library.display());
    Ok(ExitCode::SUCCESS)
}

/// With `--signed`, holds a study to plugins that a trusted key has signed.
pub(crate) fn require(file: &FileArgs, lab: &mut Lab<'_>) -> Result<(), Failed> {
    if file.signed {
        lab.require_signatures(signature::trusted_keys()?);
    }
    Ok(())
}
