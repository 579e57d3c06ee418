//! Hidden layers that become wider: the function kept where that is claimed, what stood there where it stood, and every
//! initializer against NumPy.

use engine::{LayerId, Moments, Snapshot, TensorState};
use engine_native::Device;
use plugin_host::api::{self, BlockView, Claim, InitContext, Key, TensorMut};
use serde_json::Value;

use super::bed::{Bed, Grown, NEURONS, from_library};
use super::function::{batch_of, jump, loss, unmoved};
use super::goldens::{self, Block, LOSS_NATS, RELATIVE, block, role, summary, views};

fn tensor<'a>(state: &'a Snapshot, layer: u64, class: &str) -> &'a TensorState {
    Grown::tensor(state, LayerId(layer), class)
}

#[test]
fn what_claims_to_keep_the_function_does_so() {
    let bed = Bed::small();
    for (id, config) in
        [("sapwood/net2net", "{}"), ("sapwood/lemon", "{}"), ("sapwood/lemon", r#"{ "kept": 0.25 }"#)]
    {
        let grown = bed.widen(id, config);
        assert_eq!(
            (grown.receipt.claim, grown.receipt.mlp_width),
            (Some(Claim::Exact), Some(NEURONS)),
            "{id}"
        );
        // Shares of weights are rounded to f32, which f64 sees.
        for (device, logits, loss_nats) in
            [(Device::Cpu { threads: None }, 1e-5, 1e-6), (Device::Reference, 1e-6, 1e-8)]
        {
            let jump = jump(bed.shape(), &grown, device);
            assert!(jump.logits <= logits && jump.loss_nats <= loss_nats, "{id} {config}: {jump:?}");
        }
    }
    for (id, config, claim) in
        [("sapwood/aki", "{}", Claim::None), ("sapwood/net2net", r#"{ "noise": 0.2 }"#, Claim::Approximate)]
    {
        let grown = bed.widen(id, config);
        assert_eq!(grown.receipt.claim, Some(claim), "{id}");
        let jump = jump(bed.shape(), &grown, Device::Reference);
        assert!(jump.loss_nats > 1e-5, "{id}: {jump:?}");
    }
}

/// Neurons that were there keep their place, incoming weights and AdamW state; all other tensors are untouched.
#[test]
fn what_stood_there_stands_there() {
    let [before, after] = NEURONS;
    let same_bits = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    for id in ["sapwood/net2net", "sapwood/aki", "sapwood/lemon"] {
        let grown = Bed::small().widen(id, "{}");
        assert!(grown.receipt.others_bit_identical && grown.receipt.new_layers.is_empty(), "{id}");
        for layer in 0..3 {
            let pair =
                |class: &str| (tensor(&grown.before, layer, class), tensor(&grown.after, layer, class));
            let (old, new) = pair("mlp.c_fc.weight");
            for (old, new) in old.weights.chunks(before).zip(new.weights.chunks(after)) {
                assert!(same_bits(old, &new[..before]), "{id}: block {layer}");
            }
            for part in
                [|moments: &Moments| moments.first.clone(), |moments: &Moments| moments.second.clone()]
            {
                for (old, new) in part(&old.moments).chunks(before).zip(part(&new.moments).chunks(after)) {
                    assert!(
                        same_bits(old, &new[..before]) && new[before..].iter().all(|&m| m == 0.0),
                        "{id}"
                    );
                }
            }
            assert_eq!((new.moments.updates, old.moments.updates), (6, 6), "{id}: counters go on");
            for class in ["ln_2.weight", "attn.c_attn.weight", "mlp.c_proj.bias"] {
                let (old, new) = pair(class);
                assert!(same_bits(&old.weights, &new.weights) && old.moments == new.moments, "{id}: {class}");
            }
        }
    }
}

/// Neurons that came as copies of the same: their outgoing weights two updates later.
fn twins(grown: &Grown) -> Vec<[Vec<f32>; 2]> {
    let [before, after] = NEURONS;
    let bias = &tensor(&grown.after, 0, "mlp.c_fc.bias").weights;
    let pairs = (before..after).flat_map(|a| (a + 1..after).map(move |b| [a, b]));
    let twins = pairs.filter(|[a, b]| bias[*a] == bias[*b]);
    let weights = &tensor(&grown.trained, 0, "mlp.c_proj.weight").weights;
    let outgoing = |neuron: usize| weights[neuron * 8..neuron * 8 + 8].to_vec();
    let found: Vec<[Vec<f32>; 2]> = twins.map(|pair| pair.map(outgoing)).collect();
    assert!(!found.is_empty(), "twelve draws of twenty have twins");
    found
}

/// Every neuron learns; copies that share evenly are alike for good, others are not.
#[test]
fn neurons_learn_and_uneven_ones_part() {
    for (id, are_alike) in [("sapwood/net2net", true), ("sapwood/lemon", false)] {
        let grown = Bed::small().widen(id, "{}");
        assert_eq!(unmoved(&grown), [""; 0], "{id}");
        assert!(twins(&grown).iter().all(|[a, b]| (a == b) == are_alike), "{id}");
    }
}

/// A block of the golden model, its hidden layer 45 wide.
fn widened(case: &Value, layer: u64) -> Block {
    let bed = Bed::small();
    let (shape, wide) = (bed.shape(), bed.shape().with_hidden(45));
    let old = [block(shape, 4), block(shape, 16)];
    let (specs, wide_specs) = (shape.block_tensors(), wide.block_tensors());
    let [shapes, wide_shapes] = [&specs, &wide_specs].map(|specs| {
        let of = |spec: &engine::TensorSpec| spec.shape.iter().map(|&n| n as u64).collect::<Vec<u64>>();
        specs.iter().map(of).collect::<Vec<_>>()
    });
    let tensors = old.each_ref().map(|block| views(&specs, &shapes, block));
    let existing = [0, 1].map(|id| BlockView { id: api::LayerId(id), tensors: &tensors[id as usize] });
    let context = InitContext {
        layer: api::LayerId(layer),
        position: layer as usize,
        depth_before: 2,
        depth_after: 2,
        final_depth: shape.layers,
        init_std: shape.init_std,
        key: Key::of_seed(7).named("new_blocks").numbered(layer),
        source: Some(api::LayerId(layer)),
        existing: &existing,
        original: &[],
    };
    let mut values: Block = wide_specs.iter().map(|spec| vec![f32::NAN; spec.len()]).collect();
    let mut target: Vec<TensorMut<'_>> = (wide_specs.iter().zip(&wide_shapes).zip(&mut values))
        .map(|((spec, shape), values)| TensorMut {
            class: spec.class.0,
            role: role(spec.role),
            shape,
            values,
        })
        .collect();
    let text = |key: &str| case[key].as_str().expect("text");
    from_library(text("id"), text("config")).init(&context, &mut target).expect("a source");
    values
}

#[test]
fn wider_blocks_and_their_loss_are_those_that_numpy_made() {
    let golden: Value =
        serde_json::from_str(include_str!("../golden/initializers/golden.json")).expect("JSON");
    let wide = Bed::small().shape().with_hidden(45);
    let cases = golden["widened"].as_array().expect("cases");
    for case in cases {
        let what = format!("{} {}", case["id"], case["config"]);
        let blocks = [widened(case, 0), widened(case, 1)];
        for (layer, block) in blocks.iter().enumerate() {
            for (spec, values) in wide.block_tensors().iter().zip(block) {
                for (number, ours) in summary(values).into_iter().enumerate() {
                    let theirs = case["blocks"][layer][spec.class.0][number].as_f64().expect("a number");
                    let near = (ours - theirs).abs() <= RELATIVE * ours.abs().max(1.0);
                    assert!(near, "{what}: {}, {number}: {ours}, NumPy has {theirs}", spec.class);
                }
            }
        }
        let mut model = goldens::model(&wide, &blocks.each_ref());
        let ours = loss(&wide, &mut *model, &batch_of(&wide, |i| 5 * i * i + 3 * i));
        let theirs = case["loss"].as_f64().expect("a number");
        assert!((ours - theirs).abs() <= LOSS_NATS, "{what}: {ours}, NumPy has {theirs}");
        let keeps = case["id"] != "sapwood/aki" && !case["config"].to_string().contains("noise");
        let before = golden["loss_before"].as_f64().expect("a number");
        assert_eq!((theirs - before).abs() < 1e-6, keeps, "{what}");
    }
    assert_eq!(cases.len(), 5);
}
