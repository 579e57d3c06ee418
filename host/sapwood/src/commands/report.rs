//! `sapwood report`: judges the folder of a study, or of several.

use std::process::ExitCode;

use study::{Judgement, Report};

use crate::Outcome;
use crate::args::ReportArgs;
use crate::output::result_line;

pub(crate) fn report(args: &ReportArgs) -> Outcome {
    let mut reports: Vec<Report> = Vec::new();
    for folder in &args.folders {
        reports.push(study::report_folder(folder)?);
    }
    match &reports[..] {
        [report] if args.json => result_line!("{}", report.json),
        [report] => result_line!("{}", report.terminal),
        _ if args.json => {
            let all: Vec<&str> = reports.iter().map(|report| report.json.trim_end()).collect();
            result_line!("[\n{}\n]", all.join(",\n"));
        }
        _ => {
            let judgements: Vec<Judgement> = reports.into_iter().map(|report| report.judgement).collect();
            result_line!("{}", study::side_by_side(&judgements));
        }
    }
    Ok(ExitCode::SUCCESS)
}
