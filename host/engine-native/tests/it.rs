//! The engine against independent references and against the contract; one binary, a module per question.

mod it {
    /// `.npy` files and safetensors, as far as the fixtures need them.
    mod arrays;
    /// Does it keep what every engine has to keep?
    mod contract;
    /// Do edits leave the rest alone, and are bad calls refused?
    mod edits;
    /// Is the gradient the slope of the loss, for every kind of parameter?
    mod finite_differences;
    /// Do the golden runs come out to 1e-9 in f64?
    mod float64;
    /// Does it count what a step costs as the cost accounting does?
    mod flops;
    /// Does it reproduce transformers' GPT-2 with large random weights?
    mod hf_fixture;
    /// Does each kernel of the CPU do what its twin in f64 does, whatever the measures?
    mod kernels;
    /// What the golden runs' files hold, and an engine filled from them.
    mod reference;
    /// Do whole training runs follow PyTorch's, step by step?
    mod runs;
    /// Does the gradient depend on nothing but batch, weights and scope?
    mod scope;
    /// Are the bits the same whatever the number of threads?
    mod threads;
}
