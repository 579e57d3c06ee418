//! What each method that is shipped promises, proved on its library: what new blocks do to the model's function,
//! that they can learn, whose bits they are, and against numbers that were made elsewhere.

/// A model that has trained, grown in a real run.
mod bed;
/// Initializers that are wrong, so that each proof is seen to fail.
mod controls;
/// Whose bits new blocks are, and that nothing else was touched.
mod copies;
/// Moments of what is drawn.
mod draws;
/// What becomes of AdamW's state where weights and gates share a scale.
mod folding;
/// What freezes beside old blocks, a tied head with it or not.
mod freezing;
/// Claims about the model's function, and blocks that can learn.
mod function;
/// Initializers against NumPy.
mod goldens;
/// How fast the function changes with the size of what blocks add.
mod orders;
/// Strategies with initializers, on the command line.
mod pairs;
/// What the host's audit tells of growth.
mod receipts;
/// Every strategy, asked once more about its own run.
mod replayed;
/// Strategies gone on from checkpoints.
mod resume;
/// Every strategy and initializer, as these tests choose them.
mod shipped;
/// Doubling that keeps the dynamics of training.
mod staging;
/// Blocks whose heads and neurons come in another order.
mod symmetries;
/// Models that become wider.
mod width;
