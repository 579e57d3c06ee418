//! Moments of what initializers draw: a block 512 wide, whose largest tensors have a million elements.

use engine::LayerId;

use super::bed::{Bed, Grown, growth};

/// The classes that are drawn, and whether each is scaled down for the depth.
const MATRICES: [(&str, bool); 4] = [
    ("attn.c_attn.weight", false),
    ("attn.c_proj.weight", true),
    ("mlp.c_fc.weight", false),
    ("mlp.c_proj.weight", true),
];

/// Draws have mean zero and that standard deviation, as far as so many of them can say.
fn check_normal(what: &str, draws: impl Iterator<Item = f64> + Clone, std: f64) {
    let n = draws.clone().count() as f64;
    let mean = draws.clone().sum::<f64>() / n;
    let variance = draws.clone().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let fourth = draws.map(|x| (x - mean).powi(4)).sum::<f64>() / n;
    assert!(mean.abs() <= 4.0 * std / n.sqrt(), "{what}: a mean of {mean:e}");
    assert!((variance / (std * std) - 1.0).abs() <= 0.01, "{what}: std {:e}, not {std:e}", variance.sqrt());
    assert!((fourth / (3.0 * variance * variance) - 1.0).abs() <= 0.05, "{what} is not normal");
}

/// What GPT-2's rule asks of a matrix in a model of six layers: branch outputs are divided by `sqrt(2 × 6)`, whatever
/// the depth at growth.
fn std_of(scaled: bool) -> f64 {
    if scaled { 0.02 / 12f64.sqrt() } else { 0.02 }
}

fn weights<'a>(grown: &'a Grown, layer: LayerId, class: &str) -> &'a [f32] {
    &Grown::tensor(&grown.after, layer, class).weights
}

#[test]
fn the_initial_models_blocks_have_gpt2s_moments_for_the_final_depth() {
    let grown = Bed::wide().grow("sapwood/original", "{}", &growth(3, 1, &[]));
    let new = grown.new_layers()[0];
    for (class, scaled) in MATRICES {
        let draws = weights(&grown, new, class).iter().map(|&w| f64::from(w));
        check_normal(class, draws, std_of(scaled));
    }
    for (class, value) in [("ln_1.weight", 1.0), ("ln_2.bias", 0.0), ("attn.c_attn.bias", 0.0)] {
        assert!(weights(&grown, new, class).iter().all(|&w| w == value), "{class}");
    }
}

/// Same seed and birth, same bytes; another birth or another seed, others.
#[test]
fn draws_hang_on_seed_and_birth() {
    for id in ["sapwood/original", "sapwood/zero-out"] {
        let class = "mlp.c_fc.weight";
        let draw = |seed: u64, position: usize| {
            let grown = Bed::small().with_seed(seed).grow(id, "{}", &growth(position, 2, &[]));
            let of = |index: usize| weights(&grown, grown.new_layers()[index], class).to_vec();
            (of(0), of(1))
        };
        let (first, second) = draw(1, 0);
        assert_eq!((&first, &second), (&draw(1, 2).0, &draw(1, 2).1), "{id}: wherever it stands");
        assert_ne!(first, second, "{id}");
        assert_ne!(first, draw(2, 0).0, "{id}");
    }
}
