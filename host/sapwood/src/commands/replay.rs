//! `sapwood replay`: what a strategy would have asked for in a run that is on record.

use std::process::ExitCode;

use plugin_host::{Choice, Isolation, Registry, SearchPath};
use serde_json::Value;
use trainer::folder::RunFolder;
use trainer::{ErrorClass, RecordedRun, Replay, ReplayedDecision, RunConfig};

use super::plugin::validate::parse_config;
use crate::Outcome;
use crate::args::ReplayArgs;
use crate::failure::{Failed, NOT_THE_SAME, code_of};
use crate::output::{json_of, note_line, result_line, shortened};
use crate::requests::in_words;

/// Most decisions that are listed.
const MOST_LISTED: usize = 100;
/// Longest text of what is asked for, in characters.
const MOST_CHARACTERS: usize = 200;

pub(crate) fn replay(args: &ReplayArgs) -> Outcome {
    let run = RecordedRun::read(RunFolder::at(&args.run))?;
    let registry = Registry::scan(SearchPath::standard(&args.plugins.plugin_path));
    let strategy = registry.strategy(&choice(args, &run.file.config)?)?;
    let replay = trainer::replay(&run, strategy)?;
    if args.json {
        result_line!("{}", json_of(&replay)?);
    } else {
        print(&replay, &run);
    }
    if let Some(fault) = &replay.failed {
        note_line!("error: {fault}");
        return Ok(ExitCode::from(code_of(ErrorClass::PluginFault)));
    }
    Ok(if replay.is_same { ExitCode::SUCCESS } else { ExitCode::from(NOT_THE_SAME) })
}

/// The run's own strategy, where another is not named; with its own configuration, where another is not given.
fn choice(args: &ReplayArgs, run: &RunConfig) -> Result<Choice, Failed> {
    let id = args.strategy.clone().unwrap_or_else(|| run.strategy.id.clone());
    let config = match &args.config {
        Some(text) => parse_config(text)?,
        None if id == run.strategy.id => run.strategy.config.clone(),
        None => Value::Object(serde_json::Map::new()),
    };
    Ok(Choice { id, library: args.library.clone(), isolation: Isolation::None, config })
}

fn print(replay: &Replay, run: &RecordedRun) {
    let id = &replay.strategy.id;
    result_line!("{}: {}", replay.run, verdict(replay));
    let [theirs, ours] = replay.initial_depths;
    if !replay.begins_alike {
        result_line!("its own run would begin otherwise: with {ours} blocks, where this one had {theirs}");
    }
    if let Some(other) = rebuilt(replay, run) {
        result_line!("{other}");
    }
    for what in &replay.not_told {
        result_line!("{id} was not told {what}: no log keeps it, so what rests on that may be otherwise");
    }
    if let Some(first) = replay.first_difference() {
        print_difference(first, id);
    }
    print_list(replay);
}

fn verdict(replay: &Replay) -> String {
    let Replay { asked, alike, strategy, .. } = replay;
    let id = &strategy.id;
    match (replay.is_same, &replay.failed) {
        (true, _) => format!("{id} makes the same decisions at all {asked} steps"),
        (false, Some(_)) => {
            format!("{id} decides as the run did at {alike} of {asked} steps, and then fails")
        }
        (false, None) => format!("{id} decides as the run did at {alike} of {asked} steps"),
    }
}

/// Where it is the run's own strategy in another build.
fn rebuilt(replay: &Replay, run: &RecordedRun) -> Option<String> {
    let made_with = run.file.bound_to.plugins.first()?;
    let now = &replay.strategy;
    let differs = made_with.id == now.id && made_with.sha256 != now.sha256;
    let short = |sha256: &str| sha256.chars().take(12).collect::<String>();
    differs.then(|| {
        format!(
            "another build of it: sha256 {}, the run's was {}",
            short(&now.sha256),
            short(&made_with.sha256)
        )
    })
}

fn print_difference(first: &ReplayedDecision, id: &str) {
    result_line!("the first step before which it decides otherwise: {}", first.step);
    result_line!("  the run asked for {}", shortened(&in_words(&first.run), MOST_CHARACTERS));
    result_line!("  {id} asks for {}", shortened(&in_words(&first.strategy), MOST_CHARACTERS));
    for refused in &first.refused {
        result_line!("  and is refused {}: {}", refused.request, refused.reason);
    }
    if first.takes_back == Some(true) {
        result_line!("  and takes it back, as the receipt is");
    }
}

fn print_list(replay: &Replay) {
    let asks = |decision: &&ReplayedDecision| !decision.strategy.is_empty() || !decision.refused.is_empty();
    let all: Vec<&ReplayedDecision> = replay.decisions.iter().filter(asks).collect();
    result_line!("what it asks for: {}", if all.is_empty() { "nothing" } else { "step, requests" });
    for decision in all.iter().take(MOST_LISTED) {
        let refused = match decision.refused.len() {
            0 => String::new(),
            count => format!(" ({count} refused: {})", decision.refused[0].reason),
        };
        let asks = shortened(&in_words(&decision.strategy), MOST_CHARACTERS);
        result_line!("  {}{}: {asks}{refused}", decision.step, if decision.is_same { "" } else { " *" });
    }
    if all.len() > MOST_LISTED {
        result_line!("  and {} more; --json lists all", all.len() - MOST_LISTED);
    }
    if all.iter().any(|decision| !decision.is_same) {
        result_line!("* the run decided otherwise there");
    }
}
