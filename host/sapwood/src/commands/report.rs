//! `sapwood report`: judges a study's folder.

use std::process::ExitCode;

use crate::Outcome;
use crate::args::ReportArgs;
use crate::output::result_line;

pub(crate) fn report(args: &ReportArgs) -> Outcome {
    let report = study::report_folder(&args.folder)?;
    result_line!("{}", if args.json { report.json } else { report.terminal });
    Ok(ExitCode::SUCCESS)
}
