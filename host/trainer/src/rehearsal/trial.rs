//! Whether an initializer can do what a strategy will ask of it, tried on a small model before anything is trained: one
//! that needs a source is not found out by a strategy that names none when half of the budget is spent.

use engine::ModelShape;
use plugin_host::Loaded;
use plugin_host::api::testing::{Growth, SmallModel};
use plugin_host::api::{self, Action, Error, LayerInitializer, Widths};

use crate::course::told_widths;
use crate::{ConfigError, TrainError};

/// Widest model that is tried as it is: at this width a block takes a second or two of the slowest initializer.
const WIDEST: usize = 1024;
/// Width of the model that stands for wider ones.
const NARROW: usize = 8;

/// A new block, or one made anew, as a strategy asks for it: what an initializer can count on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantedBlock {
    /// The initializer's role.
    pub slot: String,
    /// Whether the strategy names the block that it is made from.
    pub has_source: bool,
    /// Whether no block stands before it.
    pub is_first: bool,
    /// Where it stands already and is to be wider: from what to what.
    pub widening: Option<Widening>,
}

/// A model that becomes wider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Widening {
    /// How wide it is.
    pub from: Widths,
    /// How wide it will be.
    pub to: Widths,
    /// Width of one head, before and after.
    pub head_width: usize,
}

impl WantedBlock {
    /// What these requests ask for on a stack of so many blocks, the model being that wide.
    pub(crate) fn of(
        requests: &[Action],
        depth: usize,
        model: &ModelShape,
    ) -> impl Iterator<Item = WantedBlock> {
        let (mut now, head_width) = (told_widths(model.widths()), model.head_width());
        requests.iter().filter_map(move |request| match request {
            Action::Insert(insert) => Some(WantedBlock {
                slot: insert.slot.clone(),
                has_source: !insert.sources.is_empty(),
                is_first: depth == 0,
                widening: None,
            }),
            Action::Replace(replace) => Some(WantedBlock {
                slot: replace.slot.clone(),
                has_source: !replace.sources.is_empty(),
                is_first: false,
                widening: None,
            }),
            Action::Widen(widen) => Some(WantedBlock {
                slot: widen.slot.clone(),
                has_source: true,
                is_first: false,
                widening: Some(Widening {
                    from: std::mem::replace(&mut now, widen.widths),
                    to: widen.widths,
                    head_width,
                }),
            }),
            _ => None,
        })
    }

    /// Has an initializer fill in such a block. It is not to be used for a run afterwards.
    ///
    /// # Errors
    /// What it answers.
    pub fn try_out(
        &self,
        initializer: &mut Loaded<dyn LayerInitializer>,
        width: usize,
    ) -> Result<(), TrainError> {
        let tried = if width <= WIDEST {
            self.fill_in(initializer, width)
        } else {
            // A narrow one takes no time, but there may be initializers for the model's own width alone.
            self.fill_in(initializer, NARROW).or_else(|_| self.fill_in(initializer, width))
        };
        match tried {
            Ok(()) => Ok(()),
            // It was made for blocks of one size.
            Err(error) if error.panicked().is_some() && self.widening.is_some() => {
                let error = Error::new("it fails where a block is wider than its source");
                Err(self.refusal(&initializer.provenance.id, &error).into())
            }
            Err(error) if error.panicked().is_some() => Err(initializer.fault("init", &error).into()),
            Err(error) => Err(self.refusal(&initializer.provenance.id, &error).into()),
        }
    }

    fn fill_in(&self, initializer: &mut Loaded<dyn LayerInitializer>, width: usize) -> api::Result<()> {
        if let Some(Widening { from, to, head_width }) = self.widening {
            let mut model = SmallModel::with_widths(2, from, head_width);
            let widened = initializer.call(|initializer| model.widen(initializer, to))?;
            return match widened.not_finite.first() {
                Some(element) => {
                    Err(Error::new(format!("{element} is not written where the model becomes wider")))
                }
                None => Ok(()),
            };
        }
        let mut model = SmallModel::with_width(usize::from(!self.is_first), width);
        let sources = if self.has_source { model.layers() } else { Vec::new() };
        let growth = Growth { position: model.depth(), count: 1, sources };
        initializer.call(|initializer| model.grow(initializer, &growth)).map(|_| ())
    }

    fn refusal(&self, id: &str, error: &Error) -> ConfigError {
        let slot = &self.slot;
        ConfigError::new(
            format!("initializers.{slot}"),
            format!("the initializer `{id}` cannot do what the strategy will ask of it: {error}"),
            "choose another initializer, or another strategy; `sapwood plugin list` shows which there are",
        )
    }
}

#[cfg(test)]
mod tests {
    use plugin_host::api::{self, Above, Claim, InitContext, Insert, Kind, LayerId, MomentsRule, TensorMut};

    use super::*;

    /// Copies its source.
    struct Copying;

    impl LayerInitializer for Copying {
        fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> api::Result<Claim> {
            for (new, source) in target.iter_mut().zip(context.source_tensors()?) {
                new.values.copy_from_slice(source.values);
            }
            Ok(Claim::None)
        }

        api::stateless!();
    }

    /// Copies its source in a model of that width alone.
    struct Fitting(usize);

    impl LayerInitializer for Fitting {
        fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> api::Result<Claim> {
            if target[0].values.len() != self.0 {
                return Err(Error::new(format!("it is made for a width of {}", self.0)));
            }
            Copying.init(context, target)
        }

        api::stateless!();
    }

    /// What comes of a block that is asked for with these sources on so many blocks.
    fn tried(
        initializer: Box<dyn LayerInitializer>,
        sources: Vec<LayerId>,
        depth: usize,
    ) -> Result<(), String> {
        let (above, slot, moments) = (Above::Embedding, "new_blocks".into(), MomentsRule::Zero);
        let insert = Action::Insert(Insert { above, count: 1, slot, sources, moments });
        let shape = engine::contract::tiny_shape();
        let wanted =
            WantedBlock::of(&[Action::Evaluate, insert], depth, &shape).next().expect("one is inserted");
        let mut loaded = Loaded::built_in(Kind::Initializer, "test/copying", initializer);
        wanted.try_out(&mut loaded, 6).map_err(|error| error.to_string())
    }

    #[test]
    fn an_initializer_without_the_source_that_it_needs_is_refused() {
        assert_eq!(tried(Box::new(Copying), vec![LayerId(3)], 4), Ok(()));
        let wanted = "the initializer `test/copying` cannot do what the strategy will ask of it: this initializer \
                      needs a source block, but the strategy names none";
        assert_eq!(tried(Box::new(Copying), vec![], 4), Err(wanted.into()));
        assert_eq!(tried(Box::new(Copying), vec![], 0), Err(wanted.into()));
    }

    #[test]
    fn an_initializer_for_one_width_is_tried_at_that_width() {
        assert_eq!(tried(Box::new(Fitting(6)), vec![LayerId(3)], 4), Ok(()));
        let refused = tried(Box::new(Fitting(768)), vec![LayerId(3)], 4).expect_err("the model is 6 wide");
        assert!(refused.ends_with("it is made for a width of 768"), "{refused}");
    }
}
