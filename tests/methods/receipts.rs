//! The host's audit of growth: activations block by block, and tensors that the coming step leaves as they are.

use plugin_host::api::{GrowthReceipt, LayerId};

use super::bed::{Bed, growth};

fn receipt(id: &str, sources: &[u64]) -> GrowthReceipt {
    Bed::small().grow(id, "{}", &growth(1, 1, sources)).receipt
}

/// Classes of the new block's tensors that have no gradient.
fn classes_without_gradient(receipt: &GrowthReceipt) -> Vec<&str> {
    let new = format!("layer {}: ", receipt.new_layers[0]);
    receipt.without_gradient.iter().map(|name| name.strip_prefix(&new).expect("of the new block")).collect()
}

#[test]
fn a_block_that_adds_nothing_leaves_the_stream_as_it_is() {
    let receipt = receipt("sapwood/zero-out", &[2]);
    let new = receipt.new_layers[0];
    let layers: Vec<LayerId> = receipt.activation_rms_after.iter().map(|(layer, _)| *layer).collect();
    assert_eq!(layers, [LayerId(0), new, LayerId(1), LayerId(2)], "from the embeddings up");
    let old: Vec<_> =
        receipt.activation_rms_after.iter().filter(|(layer, _)| *layer != new).copied().collect();
    assert_eq!(old, receipt.activation_rms_before);
    assert_eq!(receipt.activation_rms_after[1].1, receipt.activation_rms_after[0].1);
    assert!(old.iter().all(|(_, rms)| *rms > 0.0));
}

#[test]
fn a_copy_moves_what_is_above_it_and_nothing_below() {
    let receipt = receipt("sapwood/copy", &[0]);
    let (before, after) = (&receipt.activation_rms_before, &receipt.activation_rms_after);
    assert_eq!(before[0], after[0]);
    assert_ne!(before[1], after[2], "block 1 gets something else");
}

/// Behind a map that is zero no gradient arrives in the first step; a map whose norm is zero gets none either.
#[test]
fn tensors_that_the_first_step_leaves_are_named() {
    let behind_zero_maps = [
        "ln_1.weight",
        "ln_1.bias",
        "attn.c_attn.weight",
        "attn.c_attn.bias",
        "ln_2.weight",
        "ln_2.bias",
        "mlp.c_fc.weight",
        "mlp.c_fc.bias",
    ];
    assert_eq!(classes_without_gradient(&receipt("sapwood/zero-out", &[2])), behind_zero_maps);
    let zero_norms = receipt("sapwood/ln-zero", &[2]);
    let without = classes_without_gradient(&zero_norms);
    assert!(without.contains(&"mlp.c_proj.weight") && !without.contains(&"mlp.c_proj.bias"), "{without:?}");
    assert_eq!(classes_without_gradient(&receipt("sapwood/copy", &[2])), [""; 0]);
}
