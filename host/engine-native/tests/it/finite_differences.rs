//! The gradient against the slope of the loss, tensor by tensor.

use engine_native::proof;

#[test]
fn every_kind_of_parameter_has_the_slope_of_the_loss() {
    let agreements = proof::slopes();
    // Two blocks of twelve tensors and four shared ones; the bias of keys alone has no gradient, but those of
    // queries and values share its tensor.
    assert_eq!(agreements.len(), 4 * (2 * 12 + 4));
    for proof::Agreement { what, place, deviation } in agreements {
        assert!(deviation < 1e-6, "{what}, {place}: off by {deviation:e}");
    }
}
