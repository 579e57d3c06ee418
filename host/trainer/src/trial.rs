//! Whether an initializer can do what a strategy will ask of it, tried on a small model before anything is trained: one
//! that needs a source is not found out by a strategy that names none when half of the budget is spent.

use plugin_host::Loaded;
use plugin_host::api::testing::{Growth, SmallModel};
use plugin_host::api::{Action, Error, LayerInitializer};

use crate::{ConfigError, TrainError};

/// A new block as a strategy asks for it: what an initializer can count on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WantedBlock {
    /// The initializer's role.
    pub slot: String,
    /// Whether the strategy names the block that it is made from.
    pub has_source: bool,
    /// Whether no block stands before it.
    pub is_first: bool,
}

impl WantedBlock {
    /// What these requests ask for on a stack of so many blocks.
    pub(crate) fn of(requests: &[Action], depth: usize) -> impl Iterator<Item = WantedBlock> {
        requests.iter().filter_map(move |request| match request {
            Action::Insert(insert) => Some(WantedBlock {
                slot: insert.slot.clone(),
                has_source: !insert.sources.is_empty(),
                is_first: depth == 0,
            }),
            _ => None,
        })
    }

    /// Has an initializer fill in such a block of a model of that width. It is not to be used for a run afterwards.
    ///
    /// # Errors
    /// What it answers.
    pub fn try_out(
        &self,
        initializer: &mut Loaded<dyn LayerInitializer>,
        width: usize,
    ) -> Result<(), TrainError> {
        let mut model = SmallModel::with_width(usize::from(!self.is_first), width);
        let sources = if self.has_source { model.layers() } else { Vec::new() };
        let growth = Growth { position: model.depth(), count: 1, sources };
        match model.grow(&mut *initializer.plugin, &growth) {
            Ok(_) => Ok(()),
            Err(error) if error.panicked().is_some() => Err(initializer.fault("init", &error).into()),
            Err(error) => Err(self.refusal(&initializer.provenance.id, &error).into()),
        }
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

    /// What comes of a block that is asked for with these sources on so many blocks.
    fn tried(sources: Vec<LayerId>, depth: usize) -> Result<(), String> {
        let (above, slot, moments) = (Above::Embedding, "new_blocks".into(), MomentsRule::Zero);
        let insert = Action::Insert(Insert { above, count: 1, slot, sources, moments });
        let wanted = WantedBlock::of(&[Action::Evaluate, insert], depth).next().expect("one is inserted");
        let mut copying = Loaded::built_in(
            Kind::Initializer,
            "test/copying",
            Box::new(Copying) as Box<dyn LayerInitializer>,
        );
        wanted.try_out(&mut copying, 6).map_err(|error| error.to_string())
    }

    #[test]
    fn an_initializer_without_the_source_that_it_needs_is_refused() {
        assert_eq!(tried(vec![LayerId(3)], 4), Ok(()));
        let wanted = "the initializer `test/copying` cannot do what the strategy will ask of it: this initializer \
                      needs a source block, but the strategy names none";
        assert_eq!(tried(vec![], 4), Err(wanted.into()));
        assert_eq!(tried(vec![], 0), Err(wanted.into()));
    }
}
