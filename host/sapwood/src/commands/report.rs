//! `sapwood report`: judges a study's folder.
#![allow(clippy::print_stdout)]

use std::process::ExitCode;

use crate::Outcome;
use crate::args::ReportArgs;

pub(crate) fn report(args: &ReportArgs) -> Outcome {
    let report = study::report_folder(&args.folder)?;
    println!("{}", if args.json { report.json } else { report.terminal });
    Ok(ExitCode::SUCCESS)
}
