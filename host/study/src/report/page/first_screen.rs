//! What a stranger has to see within five seconds: what was asked, what came out, how sure that is.

use super::escaped;
use crate::verdict::statistics::Interval;
use crate::verdict::{nats, p_value, signed_nats};
use crate::{ArmJudgement, Headline, Judgement, LossDifference, Outcome};

pub(super) fn render(judgement: &Judgement) -> String {
    let widest =
        judgement.arms.iter().filter_map(shown).map(|interval| reach(&interval)).fold(1e-9, f64::max);
    let rows: String = judgement.arms.iter().map(|arm| row(arm, widest)).collect();
    format!(
        "<header><p class=\"study\">Study {}</p><h1>{}</h1><p class=\"answer\">{}</p><p class=\"sure\">{}</p></header>\n\
         <section class=\"forest\"><p class=\"axis\"><span></span><span>&larr; lower than {}, better<i></i>worse &rarr;</span><span></span></p>{rows}</section>\n",
        escaped(&judgement.study),
        question(judgement),
        answer(judgement),
        sureness(judgement),
        name(&judgement.baseline),
    )
}

fn name(arm: &str) -> String {
    format!("<code>{}</code>", escaped(arm))
}

fn question(judgement: &Judgement) -> String {
    let ways = match judgement.arms.len() {
        1 => "this other way".to_owned(),
        n => format!("any of {n} other ways"),
    };
    let equal = match judgement.arms.iter().find_map(|arm| arm.verdict.headline) {
        Some(Headline::TokenMatched) => "for equal tokens",
        _ => "for equal compute",
    };
    format!("Does {ways} of training end lower than {}, {equal}?", name(&judgement.baseline))
}

/// Names of one answer that are told; the rows below have them all.
const MOST_NAMES: usize = 6;

fn answer(judgement: &Judgement) -> String {
    let members = |outcome| -> Vec<String> {
        let members = judgement.arms.iter().filter(|arm| arm.verdict.outcome == outcome);
        let mut names: Vec<String> = members.map(|arm| name(&arm.arm)).collect();
        let more = names.len().saturating_sub(MOST_NAMES);
        if more > 1 {
            names.truncate(MOST_NAMES);
            names.push(format!("{more} more"));
        }
        names
    };
    let told = Outcome::ALL.into_iter().filter_map(|outcome| {
        let (members, class, answer) = (members(outcome), class(outcome), outcome.words().answer);
        (!members.is_empty())
            .then(|| format!("<span class=\"{class}\"><b>{answer}:</b> {}</span>", members.join(", ")))
    });
    told.collect::<Vec<_>>().join(" ")
}

/// By which the page's style gives it a colour.
fn class(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Better => "better",
        Outcome::Worse | Outcome::Diverged => "worse",
        Outcome::Equal => "equal",
        Outcome::Inconclusive | Outcome::TooFewSeeds | Outcome::NotCompared => "open",
    }
}

fn sureness(judgement: &Judgement) -> String {
    let seeds = judgement.seeds.len();
    let pairs = if seeds == 1 { "one seed".to_owned() } else { format!("{seeds} seeds") };
    let smallest =
        judgement.arms.iter().filter_map(|arm| arm.headline()?.statistics.as_ref()?.smallest_visible);
    let visible = match smallest.reduce(f64::max) {
        Some(most) => {
            format!(" A difference of {} nats per token would have been seen in every arm.", nats(most))
        }
        None => String::new(),
    };
    format!(
        "Paired over {pairs}: the same initial model and the same data. Bars are 95 % intervals, one arm at a time; one that leaves \
         the middle line is a difference.{visible}{}",
        correction(judgement),
    )
}

/// What is left of it when it is taken into account that there are many arms; nothing where one alone is compared.
fn correction(judgement: &Judgement) -> String {
    let found =
        judgement.arms.iter().filter(|arm| matches!(arm.verdict.outcome, Outcome::Better | Outcome::Worse));
    let corrected: Vec<(f64, usize)> = found
        .filter_map(|arm| arm.headline())
        .filter(|difference| difference.holm_family > 1)
        .filter_map(|difference| Some((difference.holm_p?, difference.holm_family)))
        .collect();
    let Some(&(_, arms)) = corrected.first() else { return String::new() };
    match corrected.iter().filter(|(p, _)| *p < 0.05).count() {
        0 => format!(
            " Corrected for there being {arms} arms (sign-flip test, Holm), none of these differences stands by itself: more seeds would tell."
        ),
        n if n == corrected.len() => {
            format!(" All of these differences stand when corrected for there being {arms} arms (Holm).")
        }
        n => format!(" {n} of these differences stand when corrected for there being {arms} arms (Holm)."),
    }
}

fn shown(arm: &ArmJudgement) -> Option<Interval> {
    let summary = arm.headline()?.statistics.as_ref()?.summary;
    Some(summary.interval_95.unwrap_or(Interval { low: summary.mean, high: summary.mean }))
}

/// How far an interval goes from the middle, at most.
fn reach(interval: &Interval) -> f64 {
    interval.low.abs().max(interval.high.abs())
}

/// An arm's difference as a bar around the middle line, which stands for none.
fn row(arm: &ArmJudgement, widest: f64) -> String {
    let (class, words) = (class(arm.verdict.outcome), arm.verdict.outcome.words().row);
    let place = |nats: f64| 50.0 + 48.0 * (nats / widest).clamp(-1.0, 1.0);
    let bar = match (shown(arm), arm.headline().and_then(|difference| difference.statistics.as_ref())) {
        (Some(Interval { low, high }), Some(statistics)) => format!(
            "<i class=\"bar\" style=\"left:{:.2}%;width:{:.2}%\"></i><i class=\"dot\" style=\"left:{:.2}%\"></i>",
            place(low),
            (place(high) - place(low)).max(0.3),
            place(statistics.summary.mean),
        ),
        _ => String::new(),
    };
    let numbers = arm.headline().map_or_else(String::new, numbers);
    format!(
        "<div class=\"row {class}\"><span class=\"arm\">{}</span><span class=\"track\">{bar}</span>\
         <span class=\"numbers\"><b>{words}</b> {numbers}</span></div>",
        name(&arm.arm)
    )
}

fn numbers(difference: &LossDifference) -> String {
    let Some(statistics) = &difference.statistics else { return String::new() };
    let mut words = format!("{} nats", signed_nats(statistics.summary.mean));
    if let Some(Interval { low, high }) = statistics.summary.interval_95 {
        words.push_str(&format!(" [{}, {}]", signed_nats(low), signed_nats(high)));
    }
    if let Some(p) = difference.holm_p.filter(|_| difference.holm_family > 1) {
        words.push_str(&format!(", Holm p {}", p_value(p)));
    }
    words
}
