//! The layer initializer's interface, revision 1: the table, and both halves of it.

use abi_stable::std_types::{RSlice, RSliceMut, RStr};

#[cfg(feature = "host")]
use super::boundary::from_raw;
use super::boundary::{Instance, RawFault, RawResult, Slot, outcome};
use super::layout::{Described, hash_numbers};
use super::strategy::{RawSaved, moments_number};
#[cfg(feature = "host")]
use crate::MomentsRule;
use crate::{
    BlockView, Claim, Error, InitContext, Key, LayerId, LayerInitializer, Result, Role, Saved, TensorMut,
    TensorView,
};

/// The revision that this file describes.
pub const REVISION: u32 = 1;

/// Hash of everything that crosses through this interface.
pub const LAYOUT: u64 = hash_numbers(
    &[
        Table::LAYOUT,
        RawFault::LAYOUT,
        RawSaved::LAYOUT,
        RawInitContext::LAYOUT,
        RawBlock::LAYOUT,
        RawTensor::LAYOUT,
        RawTensorMut::LAYOUT,
    ],
    super::layout::START,
);

/// Everything that crosses through this interface beside its table.
pub const CROSSING: [Described; 6] = [
    RawFault::DESCRIBED,
    RawSaved::DESCRIBED,
    RawInitContext::DESCRIBED,
    RawBlock::DESCRIBED,
    RawTensor::DESCRIBED,
    RawTensorMut::DESCRIBED,
];

crossing! {
    /// The functions of an initializer.
    pub struct Table {
        /// Makes an instance from (id, configuration as JSON).
        pub create: extern "C" fn(RStr<'_>, RStr<'_>) -> RawResult<Instance>,
        /// Fills in a block; answers the claim's number.
        pub init: extern "C" fn(Instance, &RawInitContext<'_>, RSliceMut<'_, RawTensorMut<'_>>) -> RawResult<u64>,
        /// The moments rule's number.
        pub moments: extern "C" fn(Instance) -> RawResult<u64>,
        /// The state.
        pub save: extern "C" fn(Instance) -> RawResult<RawSaved>,
        /// Goes back to a state.
        pub restore: extern "C" fn(Instance, u32, RSlice<'_, u8>) -> RawResult<()>,
        /// Drops the instance.
        pub destroy: extern "C" fn(Instance),
    }
}

crossing! {
    /// [`InitContext`].
    pub struct RawInitContext<'a> {
        /// As there.
        pub layer: u64,
        /// As there.
        pub position: u64,
        /// As there.
        pub depth_before: u64,
        /// As there.
        pub depth_after: u64,
        /// As there.
        pub final_depth: u64,
        /// As there.
        pub init_std: f64,
        /// As there.
        pub key: u64,
        /// As there; all ones for none.
        pub source: u64,
        /// As there.
        pub existing: RSlice<'a, RawBlock<'a>>,
        /// As there.
        pub original: RSlice<'a, RawTensor<'a>>,
    }
}

crossing! {
    /// [`BlockView`].
    pub struct RawBlock<'a> {
        /// As there.
        pub id: u64,
        /// As there.
        pub tensors: RSlice<'a, RawTensor<'a>>,
    }
}

crossing! {
    /// [`TensorView`].
    pub struct RawTensor<'a> {
        /// As there.
        pub class: RStr<'a>,
        /// As there.
        pub role: u64,
        /// As there.
        pub shape: RSlice<'a, u64>,
        /// As there.
        pub values: RSlice<'a, f32>,
    }
}

crossing! {
    /// [`TensorMut`].
    pub struct RawTensorMut<'a> {
        /// As there.
        pub class: RStr<'a>,
        /// As there.
        pub role: u64,
        /// As there.
        pub shape: RSlice<'a, u64>,
        /// As there.
        pub values: RSliceMut<'a, f32>,
    }
}

const NO_SOURCE: u64 = u64::MAX;

// ---------------------------------------------------------------- the plugin's half

/// The table of this library.
pub static TABLE: Table = Table { create, init, moments, save, restore, destroy };

type InitializerSlot = Slot<dyn LayerInitializer>;

extern "C" fn create(id: RStr<'_>, config: RStr<'_>) -> RawResult<Instance> {
    outcome(super::export_parts::create_initializer(id.as_str(), config.as_str()).map(InitializerSlot::give))
}

extern "C" fn init(
    instance: Instance,
    raw: &RawInitContext<'_>,
    mut target: RSliceMut<'_, RawTensorMut<'_>>,
) -> RawResult<u64> {
    // SAFETY: the host passes what `create` gave, from one thread at a time; so below.
    unsafe {
        InitializerSlot::call(instance, |initializer| {
            let tensors: Vec<Vec<TensorView<'_>>> =
                raw.existing.iter().map(|block| views(block.tensors)).collect();
            let existing: Vec<BlockView<'_>> = (raw.existing.iter().zip(&tensors))
                .map(|(block, tensors)| BlockView { id: LayerId(block.id), tensors })
                .collect();
            let original = views(raw.original);
            let context = InitContext {
                layer: LayerId(raw.layer),
                position: size(raw.position)?,
                depth_before: size(raw.depth_before)?,
                depth_after: size(raw.depth_after)?,
                final_depth: size(raw.final_depth)?,
                init_std: raw.init_std,
                key: Key(raw.key),
                source: (raw.source != NO_SOURCE).then_some(LayerId(raw.source)),
                existing: &existing,
                original: &original,
            };
            let mut tensors: Vec<TensorMut<'_>> =
                target.iter_mut().map(RawTensorMut::as_author_sees_it).collect();
            initializer.init(&context, &mut tensors).map(claim_number)
        })
    }
}

extern "C" fn moments(instance: Instance) -> RawResult<u64> {
    // SAFETY: see `init`.
    unsafe { InitializerSlot::call(instance, |initializer| Ok(moments_number(initializer.moments()))) }
}

extern "C" fn save(instance: Instance) -> RawResult<RawSaved> {
    // SAFETY: see `init`.
    unsafe { InitializerSlot::call(instance, |initializer| initializer.save().map(RawSaved::from)) }
}

extern "C" fn restore(instance: Instance, version: u32, bytes: RSlice<'_, u8>) -> RawResult<()> {
    let saved = Saved { version, bytes: bytes.to_vec() };
    // SAFETY: see `init`.
    unsafe { InitializerSlot::call(instance, |initializer| initializer.restore(&saved)) }
}

extern "C" fn destroy(instance: Instance) {
    // SAFETY: see `init`; the host does not use the instance again.
    unsafe { InitializerSlot::drop_instance(instance) }
}

impl RawTensorMut<'_> {
    fn as_author_sees_it(&mut self) -> TensorMut<'_> {
        TensorMut {
            class: self.class.as_str(),
            role: Role(self.role as u32),
            shape: self.shape.as_slice(),
            values: self.values.as_mut_slice(),
        }
    }
}

fn views<'a>(raw: RSlice<'a, RawTensor<'a>>) -> Vec<TensorView<'a>> {
    raw.as_slice()
        .iter()
        .map(|tensor| TensorView {
            class: tensor.class.as_str(),
            role: Role(tensor.role as u32),
            shape: tensor.shape.as_slice(),
            values: tensor.values.as_slice(),
        })
        .collect()
}

fn size(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(Error::from)
}

fn claim_number(claim: Claim) -> u64 {
    match claim {
        Claim::None => 1,
        Claim::Approximate => 2,
        Claim::Exact => 3,
    }
}

// ---------------------------------------------------------------- the host's half

/// An initializer of a loaded library.
#[cfg(feature = "host")]
pub(crate) struct HostInitializer {
    table: &'static Table,
    instance: Instance,
    moments: MomentsRule,
}

// SAFETY: the instance is a boxed `LayerInitializer`, which is `Send`, and `&mut self` keeps calls apart.
#[cfg(feature = "host")]
unsafe impl Send for HostInitializer {}

#[cfg(feature = "host")]
impl HostInitializer {
    pub(crate) fn create(table: &'static Table, id: &str, config: &str) -> Result<HostInitializer> {
        let instance = from_raw((table.create)(id.into(), config.into()))?;
        // Owned from here on, so that an error below destroys it.
        let mut made = HostInitializer { table, instance, moments: MomentsRule::Zero };
        made.moments = match from_raw((table.moments)(instance))? {
            1 | 2 => MomentsRule::Zero,
            3 => MomentsRule::CopyFromSource,
            other => {
                return Err(Error::new(format!("this host does not know the moments rule number {other}")));
            }
        };
        Ok(made)
    }
}

#[cfg(feature = "host")]
impl Drop for HostInitializer {
    fn drop(&mut self) {
        (self.table.destroy)(self.instance);
    }
}

#[cfg(feature = "host")]
impl LayerInitializer for HostInitializer {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let tensors: Vec<Vec<RawTensor<'_>>> =
            context.existing.iter().map(|block| raw_views(block.tensors)).collect();
        let existing: Vec<RawBlock<'_>> = (context.existing.iter().zip(&tensors))
            .map(|(block, tensors)| RawBlock { id: block.id.0, tensors: tensors.as_slice().into() })
            .collect();
        let original = raw_views(context.original);
        let raw = RawInitContext {
            layer: context.layer.0,
            position: context.position as u64,
            depth_before: context.depth_before as u64,
            depth_after: context.depth_after as u64,
            final_depth: context.final_depth as u64,
            init_std: context.init_std,
            key: context.key.0,
            source: context.source.map_or(NO_SOURCE, |source| source.0),
            existing: existing.as_slice().into(),
            original: original.as_slice().into(),
        };
        let mut target: Vec<RawTensorMut<'_>> = target
            .iter_mut()
            .map(|tensor| RawTensorMut {
                class: tensor.class.into(),
                role: tensor.role.0.into(),
                shape: tensor.shape.into(),
                values: (&mut *tensor.values).into(),
            })
            .collect();
        let claim = from_raw((self.table.init)(self.instance, &raw, target.as_mut_slice().into()))?;
        match claim {
            1 => Ok(Claim::None),
            2 => Ok(Claim::Approximate),
            3 => Ok(Claim::Exact),
            other => Err(Error::new(format!("this host does not know the claim number {other}"))),
        }
    }

    fn moments(&self) -> MomentsRule {
        self.moments
    }

    fn save(&self) -> Result<Saved> {
        from_raw((self.table.save)(self.instance)).map(Saved::from)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        from_raw((self.table.restore)(self.instance, saved.version, saved.bytes.as_slice().into()))
    }
}

#[cfg(feature = "host")]
fn raw_views<'a>(tensors: &'a [TensorView<'a>]) -> Vec<RawTensor<'a>> {
    tensors
        .iter()
        .map(|tensor| RawTensor {
            class: tensor.class.into(),
            role: tensor.role.0.into(),
            shape: tensor.shape.into(),
            values: tensor.values.into(),
        })
        .collect()
}
