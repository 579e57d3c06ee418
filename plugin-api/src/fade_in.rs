//! New blocks that come in by degrees: their gates rise from 0, at which the model's function is what it was, to 1.

use crate::{Actions, Gate, LayerId, Result, StepContext};

/// New blocks come in over so many steps, as masked structural growth has it (Yao et al., ICLR 2024, arXiv 2305.02869): a
/// block whose gates are closed right before step `s` runs at `k / steps` of its full weight in step `s + k`, and whole
/// from `s + steps` on. In step `s` itself it neither runs nor trains. Whatever the initializer, growth leaves the
/// function as it was.
///
/// A plan whose blocks fade in has to announce `executes`; with 0 steps nothing is asked for at all. What it does follows
/// from the age of blocks, so that there is no state to keep.
///
/// ```
/// # use sapwood_plugin::*;
/// # struct Growing { fade_in: FadeIn }
/// # impl GrowthStrategy for Growing {
/// fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
///     let slots = vec!["new_blocks".into()];
///     Ok(Plan { slots, executes: self.fade_in.is_gradual(), ..Plan::fixed_depth(1, run.model.layers) })
/// }
///
/// fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
///     self.fade_in.open(context, actions)?;
///     if context.step == 5 {
///         let (count, slot, sources) = (1, "new_blocks".into(), vec![]);
///         let (above, moments) = (Above::Embedding, MomentsRule::Zero);
///         let new = actions.insert(Insert { above, count, slot, sources, moments })?;
///         self.fade_in.close(&new, actions)?;
///     }
///     Ok(())
/// }
/// #     stateless!();
/// # }
/// # let mut growing = Growing { fade_in: FadeIn::over(4) };
/// let transcript = testing::SimulatedRun::new(2, 12).drive(&mut growing)?.to_string();
/// for gate in ["step 5: insert 1 above the embedding for new_blocks; gate 1(0 0)", "step 6: gate 1(0.25 0.25)", "step 9: gate 1(1 1)"] {
///     assert!(transcript.contains(gate), "{transcript}");
/// }
/// # sapwood_plugin::Result::Ok(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FadeIn {
    steps: u64,
}

impl FadeIn {
    /// Over so many steps; 0 = at once.
    pub fn over(steps: u64) -> FadeIn {
        FadeIn { steps }
    }

    /// Whether it asks for gates at all.
    pub fn is_gradual(self) -> bool {
        self.steps > 0
    }

    /// Closes the gates of blocks that were just inserted.
    ///
    /// # Errors
    /// As for [`Actions::gate`].
    pub fn close(self, new: &[LayerId], actions: &mut Actions<'_>) -> Result<()> {
        if !self.is_gradual() || new.is_empty() {
            return Ok(());
        }
        actions.gate(new.iter().map(|&layer| Gate::both(layer, 0.0)).collect())
    }

    /// Opens the gates of young blocks a step further; to be called before every step. The blocks of the start are old.
    ///
    /// # Errors
    /// As for [`Actions::gate`].
    pub fn open(self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let age = |born_at_step: u64| context.step.saturating_sub(born_at_step);
        let young = context
            .blocks
            .iter()
            .filter(|block| block.born_at_step > 0 && (1..=self.steps).contains(&age(block.born_at_step)));
        let gate = |age: u64| (age as f64 / self.steps as f64) as f32;
        let gates: Vec<Gate> =
            young.map(|block| Gate::both(block.id, gate(age(block.born_at_step)))).collect();
        if gates.is_empty() { Ok(()) } else { actions.gate(gates) }
    }
}
