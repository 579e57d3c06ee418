//! Operations with a backward pass of their own, as Burn's autodiff takes them.
//!
//! Autodiff alone would do, and gives the same numbers at 0.55 of the speed: it computes every `exp` and
//! `tanh` again on the way back, and records some forty small operations a block. Where that costs most
//! (attention, layer norm, GELU, cross-entropy) a formula and its derivative stand beside each other instead,
//! both in plain tensor operations. Linear maps, residual sums, embeddings and the tied head stay autodiff's.

use std::fmt::Debug;

use burn::{
    backend::{
        Autodiff, Flex,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::NoCheckpointing},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
    },
    tensor::{Tensor, TensorPrimitive, backend::Backend},
};

/// `N` inputs, one output, all `[rows, columns]`. What is no weight and no activation is in `self`.
pub(crate) trait Operation<B: Backend, const N: usize>: Clone + Debug + Send + 'static {
    /// What the backward pass needs again.
    type Saved: Clone + Debug + Send + 'static;

    fn forward(&self, inputs: [Tensor<B, 2>; N]) -> (Tensor<B, 2>, Self::Saved);

    /// The gradient of each input, given the output's.
    fn backward(&self, saved: Self::Saved, gradient: Tensor<B, 2>) -> [Tensor<B, 2>; N];
}

/// A backend that runs operations: recording them, if it is autodiff.
pub(crate) trait Compute: Backend {
    /// The backend below autodiff; itself if it is none.
    type Plain: Backend<Device = Self::Device>;

    fn apply<O, const N: usize>(operation: O, inputs: [Tensor<Self, 2>; N]) -> Tensor<Self, 2>
    where
        O: Operation<Self::Plain, N>;
}

impl Compute for Flex {
    type Plain = Flex;

    fn apply<O, const N: usize>(operation: O, inputs: [Tensor<Flex, 2>; N]) -> Tensor<Flex, 2>
    where
        O: Operation<Flex, N>,
    {
        operation.forward(inputs).0
    }
}

#[cfg(feature = "burn-cuda")]
impl Compute for burn_cuda::Cuda {
    type Plain = burn_cuda::Cuda;

    fn apply<O, const N: usize>(operation: O, inputs: [Tensor<Self, 2>; N]) -> Tensor<Self, 2>
    where
        O: Operation<Self, N>,
    {
        operation.forward(inputs).0
    }
}

impl<B: Backend> Compute for Autodiff<B> {
    type Plain = B;

    fn apply<O, const N: usize>(operation: O, inputs: [Tensor<Self, 2>; N]) -> Tensor<Self, 2>
    where
        O: Operation<B, N>,
    {
        let inputs = inputs.map(|input| input.into_primitive().tensor());
        let nodes = inputs.each_ref().map(|input| input.node.clone());
        let recorded = Recorded(operation.clone());
        let prepared =
            Backward::<B, N>::prepare::<NoCheckpointing>(recorded, nodes).compute_bound().stateful();
        let (output, saved) = operation.forward(inputs.map(|input| wrap(input.primitive)));
        let output = output.into_primitive().tensor();
        wrap(match prepared {
            OpsKind::Tracked(step) => step.finish(saved, output),
            OpsKind::UnTracked(step) => step.finish(output),
        })
    }
}

/// An operation on autodiff's tape.
#[derive(Debug)]
struct Recorded<O>(O);

impl<B: Backend, O: Operation<B, N>, const N: usize> Backward<B, N> for Recorded<O> {
    type State = O::Saved;

    fn backward(self, ops: Ops<O::Saved, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let of_output = wrap::<B>(gradients.consume::<B>(&ops.node));
        let of_inputs = self.0.backward(ops.state, of_output);
        for (parent, gradient) in ops.parents.into_iter().zip(of_inputs) {
            // A parent that needs no gradient is absent.
            if let Some(parent) = parent {
                gradients.register::<B>(parent.id, gradient.into_primitive().tensor());
            }
        }
    }
}

fn wrap<B: Backend>(primitive: B::FloatTensorPrimitive) -> Tensor<B, 2> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}
