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
    let grown = Bed::wide().grow("sapwood/original", "{}", &growth(1, 1, &[]));
    let new = grown.new_layers()[0];
    for (class, scaled) in MATRICES {
        let draws = weights(&grown, new, class).iter().map(|&w| f64::from(w));
        check_normal(class, draws, std_of(scaled));
    }
    for (class, value) in [("ln_1.weight", 1.0), ("ln_2.bias", 0.0), ("attn.c_attn.bias", 0.0)] {
        assert!(weights(&grown, new, class).iter().all(|&w| w == value), "{class}");
    }
}

/// What a new block has beyond a share of its source, over what `unit` says that it should be: standard normal.
fn check_noise(id: &str, config: &str, share: f64, unit: impl Fn(bool, &[f32]) -> f64) {
    let grown = Bed::wide().grow(id, config, &growth(1, 1, &[0]));
    let new = grown.new_layers()[0];
    for (class, scaled) in MATRICES {
        let source = &Grown::tensor(&grown.before, LayerId(0), class).weights;
        let unit = unit(scaled, source);
        let pairs = weights(&grown, new, class).iter().zip(source);
        let noise = pairs.map(|(&new, &source)| (f64::from(new) - share * f64::from(source)) / unit);
        check_normal(&format!("{id}: {class}"), noise, 1.0);
    }
}

#[test]
fn noise_on_copies_is_a_share_of_each_matrixs_rms() {
    check_noise("sapwood/copy-noise", r#"{ "eta": 0.03 }"#, 1.0, |_, source| {
        let squares: f64 = source.iter().map(|&w| f64::from(w * w)).sum();
        0.03 * (squares / source.len() as f64).sqrt()
    });
}

#[test]
fn fresh_weights_on_shrunk_ones_are_gpt2s_for_the_final_depth() {
    let config = r#"{ "lambda": 0.4, "kappa": 0.5 }"#;
    check_noise("sapwood/shrink-perturb", config, 0.4, |scaled, _| 0.5 * std_of(scaled));
}

/// Same seed and birth, same bytes; another birth or another seed, others.
#[test]
fn draws_hang_on_seed_and_birth() {
    let cases: [(&str, &[u64]); 4] = [
        ("sapwood/original", &[]),
        ("sapwood/zero-out", &[]),
        ("sapwood/copy-noise", &[1, 1]),
        ("sapwood/shrink-perturb", &[1, 1]),
    ];
    for (id, sources) in cases {
        let class = "mlp.c_fc.weight";
        let draw = |seed: u64, position: usize| {
            let grown = Bed::small().with_seed(seed).grow(id, "{}", &growth(position, 2, sources));
            let of = |index: usize| weights(&grown, grown.new_layers()[index], class).to_vec();
            (of(0), of(1))
        };
        let (first, second) = draw(1, 0);
        assert_eq!((&first, &second), (&draw(1, 2).0, &draw(1, 2).1), "{id}: wherever it stands");
        assert_ne!(first, second, "{id}");
        assert_ne!(first, draw(2, 0).0, "{id}");
    }
}
