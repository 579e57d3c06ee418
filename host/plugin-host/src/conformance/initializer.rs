//! Questions to an initializer: it fills in blocks of small models, at every place, from sources and without.

use std::time::Instant;

use sapwood_plugin::testing::{Grown, Growth, SmallModel};
use sapwood_plugin::{LayerId, LayerInitializer, Saved};
use sha2::{Digest, Sha256};

use super::process::{memory_over, prints_nothing, starts_no_thread, wrote_nothing_here};
use super::subject::{survived, while_doing};
use super::{Answer, Question, Said, Subject, noted, passed};

/// Weights beyond that are a mistake in every model that trains.
const LARGEST_VALUE: f64 = 1e4;
/// How long filling in a block of GPT-2's width may take.
const MOST_SECONDS: f64 = 5.0;

pub(super) const QUESTIONS: &[Question] = &[
    Question { name: "every-element-is-written", asks: "writes every element, with a number", ask: written },
    Question { name: "values-are-within-reason", asks: "writes no huge weight", ask: within_reason },
    Question { name: "exact-claims-hold", asks: "claims exactness only where it is true", ask: exact },
    Question { name: "any-position-is-filled", asks: "fills bottom, middle and top", ask: positions },
    Question { name: "sources-are-used-or-survived", asks: "takes sources, or errs clearly", ask: sources },
    Question {
        name: "unknown-source-is-survived",
        asks: "survives a source that is not there",
        ask: no_source,
    },
    Question {
        name: "no-original-is-survived",
        asks: "survives a model without originals",
        ask: no_original,
    },
    Question { name: "empty-stack-is-survived", asks: "fills the first block, or errs clearly", ask: empty },
    Question { name: "other-shapes-are-survived", asks: "takes other widths", ask: shapes },
    Question { name: "extreme-values-are-survived", asks: "survives huge weights", ask: extremes },
    Question { name: "wide-blocks-are-filled", asks: "fills a block 768 wide in time", ask: wide },
    Question { name: "existing-blocks-stay", asks: "changes no block that is there", ask: others_stay },
    Question { name: "moments-rule-repeats", asks: "has one rule for moments", ask: moments },
    Question { name: "same-answers-again", asks: "writes the same in the same place", ask: repeats },
    Question { name: "same-answers-in-another-process", asks: "does so in another process", ask: digest },
    Question { name: "instances-are-separate", asks: "shares nothing between instances", ask: separate },
    Question { name: "moves-between-threads", asks: "works on any thread", ask: threads },
    Question { name: "goes-on-from-a-saved-state", asks: "loses no state", ask: goes_on },
    Question {
        name: "other-state-version-is-refused",
        asks: "reads no other version's state",
        ask: other_version,
    },
    Question { name: "damaged-state-is-survived", asks: "survives damaged states", ask: damaged },
    Question { name: "memory-does-not-grow", asks: "keeps its memory", ask: memory },
    Question { name: "prints-nothing", asks: "prints nothing", ask: silent },
    Question { name: "writes-no-file", asks: "leaves no file behind", ask: no_file },
    Question { name: "starts-no-thread", asks: "starts no thread", ask: no_thread },
];

fn made(subject: &Subject) -> Result<Box<dyn LayerInitializer>, String> {
    subject.initializer().map_err(while_doing("new"))
}

/// Two new blocks above the lowest two, each with a source: what every initializer has to be able to do.
fn usual_growth(model: &SmallModel, position: usize) -> Growth {
    let layers = model.layers();
    Growth { position, count: 2, sources: layers.iter().copied().take(2).collect() }
}

fn grown(subject: &Subject) -> Result<(SmallModel, Grown), String> {
    grown_by(&mut *made(subject)?)
}

fn grown_by(initializer: &mut dyn LayerInitializer) -> Result<(SmallModel, Grown), String> {
    let mut model = SmallModel::new(3);
    let growth = usual_growth(&model, 2);
    let grown = model.grow(initializer, &growth).map_err(while_doing("two blocks with sources"))?;
    Ok((model, grown))
}

/// For configurations that were taken: no panic, whatever else.
pub(super) fn try_out(what: &str, initializer: &mut dyn LayerInitializer) -> Result<(), String> {
    let mut model = SmallModel::new(3);
    let growth = usual_growth(&model, 2);
    survived(what, model.grow(initializer, &growth)).map(|_| ())
}

fn written(subject: &Subject) -> Answer {
    match grown(subject)?.1.not_finite.first() {
        Some(element) => Err(format!("{element} is not finite or was not written")),
        None => passed(),
    }
}

fn within_reason(subject: &Subject) -> Answer {
    let largest = grown(subject)?.1.largest_value;
    let note = format!("the largest is {largest:.3e}");
    if largest > LARGEST_VALUE { Err(note) } else { noted(note) }
}

fn exact(subject: &Subject) -> Answer {
    for position in 0..=3 {
        let mut model = SmallModel::new(3);
        let growth = usual_growth(&model, position);
        let grown = model.grow(&mut *made(subject)?, &growth).map_err(while_doing("two blocks"))?;
        if !grown.exact_claims_hold() {
            return Err(format!(
                "claims to leave the function as it is, but at position {position} a token's loss moves by {:.3e} nats",
                grown.largest_token_loss_change
            ));
        }
    }
    noted(format!("claims {:?}", grown(subject)?.1.claims))
}

fn positions(subject: &Subject) -> Answer {
    let mut initializer = made(subject)?;
    for position in 0..=3 {
        let mut model = SmallModel::new(3);
        let growth = usual_growth(&model, position);
        let grown = model.grow(&mut *initializer, &growth);
        let grown = grown.map_err(|error| format!("at position {position}: {error}"))?;
        if let Some(element) = grown.not_finite.first() {
            return Err(format!("at position {position}: {element} is not finite or was not written"));
        }
    }
    passed()
}

/// Grows in an unusual way; success has to be whole, an error has to be one and no panic.
fn whole_or_refused(what: &str, subject: &Subject, mut model: SmallModel, growth: &Growth) -> Answer {
    let grown = survived(what, model.grow(&mut *made(subject)?, growth))?;
    match grown {
        Some(grown) if !grown.not_finite.is_empty() => {
            Err(format!("{what}: {} is not finite or was not written", grown.not_finite[0]))
        }
        Some(_) => passed(),
        None => noted("refused".into()),
    }
}

fn sources(subject: &Subject) -> Answer {
    let growth = Growth { position: 3, count: 1, sources: vec![] };
    whole_or_refused("without a source", subject, SmallModel::new(3), &growth)
}

fn no_source(subject: &Subject) -> Answer {
    let growth = Growth { position: 1, count: 1, sources: vec![LayerId(999)] };
    whole_or_refused("a source that is not there", subject, SmallModel::new(3), &growth)
}

fn no_original(subject: &Subject) -> Answer {
    let model = SmallModel::new(3).without_originals();
    let growth = usual_growth(&model, 3);
    whole_or_refused("no original", subject, model, &growth)
}

fn empty(subject: &Subject) -> Answer {
    let growth = Growth { position: 0, count: 1, sources: vec![] };
    whole_or_refused("an empty stack", subject, SmallModel::new(0), &growth)
}

fn shapes(subject: &Subject) -> Answer {
    for width in [1, 2, 5, 64] {
        let model = SmallModel::with_width(2, width);
        let growth = usual_growth(&model, 1);
        whole_or_refused(&format!("a width of {width}"), subject, model, &growth)?;
    }
    passed()
}

fn extremes(subject: &Subject) -> Answer {
    for factor in [0.0, 1e-30, 1e30] {
        let mut model = SmallModel::new(3);
        model.scale_blocks(factor);
        let growth = usual_growth(&model, 2);
        survived(&format!("weights times {factor}"), model.grow(&mut *made(subject)?, &growth))?;
    }
    passed()
}

fn wide(subject: &Subject) -> Answer {
    let mut model = SmallModel::with_width(1, 768);
    let growth = Growth { position: 1, count: 1, sources: model.layers() };
    let mut initializer = made(subject)?;
    let mut timed = Timed { initializer: &mut *initializer, seconds: 0.0 };
    let grown = model.grow(&mut timed, &growth).map_err(while_doing("a block 768 wide"))?;
    let note = format!("{:.1} ms", 1000.0 * timed.seconds);
    if let Some(element) = grown.not_finite.first() {
        return Err(format!("{element} is not finite or was not written"));
    }
    if timed.seconds > MOST_SECONDS { Err(format!("takes {note}")) } else { noted(note) }
}

/// An initializer by the clock.
struct Timed<'a> {
    initializer: &'a mut dyn LayerInitializer,
    seconds: f64,
}

impl LayerInitializer for Timed<'_> {
    fn init(
        &mut self,
        context: &sapwood_plugin::InitContext<'_>,
        target: &mut [sapwood_plugin::TensorMut<'_>],
    ) -> sapwood_plugin::Result<sapwood_plugin::Claim> {
        let began = Instant::now();
        let claim = self.initializer.init(context, target);
        self.seconds += began.elapsed().as_secs_f64();
        claim
    }

    fn save(&self) -> sapwood_plugin::Result<Saved> {
        self.initializer.save()
    }

    fn restore(&mut self, saved: &Saved) -> sapwood_plugin::Result<()> {
        self.initializer.restore(saved)
    }
}

fn others_stay(subject: &Subject) -> Answer {
    let before = SmallModel::new(3);
    let (after, _) = grown(subject)?;
    let changed =
        before.layers().into_iter().find(|&layer| bits(before.block(layer)) != bits(after.block(layer)));
    match changed {
        Some(layer) => Err(format!("block {layer} is another after it")),
        None => passed(),
    }
}

fn bits(block: Option<&[Vec<f32>]>) -> Vec<u32> {
    block.into_iter().flatten().flatten().map(|value| value.to_bits()).collect()
}

fn all_bits(model: &SmallModel) -> Vec<u32> {
    model.layers().into_iter().flat_map(|layer| bits(model.block(layer))).collect()
}

fn moments(subject: &Subject) -> Answer {
    let (one, other) = (made(subject)?, made(subject)?);
    if one.moments() == other.moments() {
        noted(format!("{:?}", one.moments()))
    } else {
        Err("differs".into())
    }
}

fn repeats(subject: &Subject) -> Answer {
    let first = grown(subject)?;
    for _ in 0..3 {
        let again = grown(subject)?;
        if all_bits(&first.0) != all_bits(&again.0) || first.1.claims != again.1.claims {
            return Err("writes other values, or claims something else, in the same place".into());
        }
    }
    passed()
}

fn digest(subject: &Subject) -> Answer {
    let (model, grown) = grown(subject)?;
    let bytes: Vec<u8> = all_bits(&model).iter().flat_map(|bits| bits.to_le_bytes()).collect();
    let hash = Sha256::digest(&bytes);
    Ok(Said { digest: format!("{hash:x} {:?}", grown.claims), ..Said::default() })
}

fn separate(subject: &Subject) -> Answer {
    let alone = grown(subject)?;
    let mut other = made(subject)?;
    let mut elsewhere = SmallModel::with_width(4, 16);
    let growth = usual_growth(&elsewhere, 4);
    survived("another model", elsewhere.grow(&mut *other, &growth))?;
    if all_bits(&alone.0) == all_bits(&grown(subject)?.0) {
        passed()
    } else {
        Err("instances share a state".into())
    }
}

fn threads(subject: &Subject) -> Answer {
    let here = grown(subject)?;
    let mut initializer = made(subject)?;
    let there = std::thread::spawn(move || grown_by(&mut *initializer)).join();
    let there = there.map_err(|_| "panics on another thread".to_owned())??;
    if all_bits(&here.0) == all_bits(&there.0) { passed() } else { Err("writes other values there".into()) }
}

/// Grows twice, with a saved and restored instance for the second time, and compares with one that went on.
fn goes_on(subject: &Subject) -> Answer {
    let (mut whole, mut resumed) = (made(subject)?, made(subject)?);
    grown_by(&mut *whole)?;
    grown_by(&mut *resumed)?;
    let saved = resumed.save().map_err(while_doing("save"))?;
    let mut resumed = made(subject)?;
    resumed.restore(&saved).map_err(while_doing("restore"))?;
    let (whole, resumed) = (grown_by(&mut *whole)?.0, grown_by(&mut *resumed)?.0);
    if all_bits(&whole) == all_bits(&resumed) {
        passed()
    } else {
        Err("writes other values after it was saved and restored".into())
    }
}

fn other_version(subject: &Subject) -> Answer {
    let saved = made(subject)?.save().map_err(while_doing("save"))?;
    let other = Saved { version: saved.version.wrapping_add(1000), ..saved };
    match made(subject)?.restore(&other) {
        Ok(()) => Err(format!("takes a state of version {}", other.version)),
        Err(error) if error.panicked().is_some() => Err(error.to_string()),
        Err(_) => passed(),
    }
}

fn damaged(subject: &Subject) -> Answer {
    let Saved { version, bytes } = made(subject)?.save().map_err(while_doing("save"))?;
    let cut = bytes[..bytes.len() / 2].to_vec();
    for (what, bytes) in [
        ("no byte", vec![]),
        ("half of it", cut),
        ("noise", vec![0xa5; 64]),
        ("a megabyte", vec![0; 1 << 20]),
    ] {
        let restored = made(subject)?.restore(&Saved { version, bytes });
        let restored = survived(&format!("a state of {what}"), restored)?;
        if restored.is_some() && what == "noise" {
            return Err("takes noise for its state".into());
        }
    }
    passed()
}

fn memory(subject: &Subject) -> Answer {
    let mut initializer = made(subject)?;
    memory_over(2000, |_| {
        let mut model = SmallModel::with_width(2, 16);
        let growth = usual_growth(&model, 1);
        model.grow(&mut *initializer, &growth).map(|_| ()).map_err(while_doing("two blocks"))
    })
}

fn silent(subject: &Subject) -> Answer {
    grown(subject)?;
    prints_nothing(subject, true)
}

fn no_file(subject: &Subject) -> Answer {
    grown(subject)?;
    wrote_nothing_here()
}

fn no_thread(subject: &Subject) -> Answer {
    starts_no_thread(|| grown(subject).map(|_| ()))
}
