//! `sapwood plugin pack`: libraries for several machines in one file.

use std::process::ExitCode;

use plugin_host::pack::{EXTENSION, Pack, pack as write_pack};
use trainer::ErrorClass;

use crate::Outcome;
use crate::args::PackArgs;
use crate::failure::Failed;
use crate::output::result_line;

pub(crate) fn pack(args: &PackArgs) -> Outcome {
    if args.out.extension().is_none_or(|extension| extension != EXTENSION) {
        let message = format!("{} does not end in .{EXTENSION}", args.out.display());
        return Err(Failed::new(ErrorClass::Config, message, format!("call it NAME.{EXTENSION}")));
    }
    let pack = write_pack(&args.libraries, &args.out)?;
    if args.json {
        let text = serde_json::to_string_pretty(&pack);
        result_line!(
            "{}",
            text.map_err(|error| Failed::new(ErrorClass::Internal, error, "please report this"))?
        );
        return Ok(ExitCode::SUCCESS);
    }
    print(&pack);
    result_line!("written: {}", args.out.display());
    Ok(ExitCode::SUCCESS)
}

fn print(pack: &Pack) {
    for plugin in &pack.plugins {
        result_line!("{:<12} {:<26} {}", plugin.kind.to_string(), plugin.id, plugin.version);
    }
    for (target, library) in &pack.libraries {
        let needs = library.glibc.map(|glibc| format!("needs glibc {glibc}")).unwrap_or_default();
        result_line!("{target:<28} {:<28} {needs}", library.file);
    }
}
