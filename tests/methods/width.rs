//! Models that become wider: the function kept where that is claimed, what stood there where it stood, and every initializer
//! against NumPy.

use engine::{LayerId, ModelShape, Moments, Snapshot, TensorState};
use engine_native::Device;
use plugin_host::api::{Claim, Widths};
use serde_json::Value;

use super::bed::{Bed, Grown, WHOLE};
use super::function::{batch_of, jump, loss, unmoved};
use super::goldens::{Asked, Block, LOSS_NATS, RELATIVE, block, model_of, shared, summary};

/// Neurons of hidden layers before and after they are widened.
const NEURONS: [usize; 2] = [20, 32];
/// Narrower than the whole model in hidden layers alone, in heads alone, in the stream alone, and in all.
const FEWER_NEURONS: Widths = Widths { mlp_width: NEURONS[0], ..WHOLE };
const ONE_HEAD: Widths = Widths { heads: 1, ..WHOLE };
const HALF_A_STREAM: Widths = Widths { width: 4, ..WHOLE };
const HALF: Widths = Widths { width: 4, heads: 1, mlp_width: 16 };
const THREE_QUARTERS_OF_A_STREAM: Widths = Widths { width: 6, heads: 1, mlp_width: 20 };

fn tensor<'a>(state: &'a Snapshot, layer: u64, class: &str) -> &'a TensorState {
    Grown::tensor(state, LayerId(layer), class)
}

#[test]
fn what_claims_to_keep_the_function_does_so() {
    let bed = Bed::small();
    let any = [FEWER_NEURONS, ONE_HEAD, HALF_A_STREAM, HALF];
    for (id, config, from) in [
        ("sapwood/net2net", "{}", any.as_slice()),
        ("sapwood/lemon", "{}", &any),
        ("sapwood/lemon", r#"{ "kept": 0.25 }"#, &any),
        ("sapwood/staged", "{}", &[HALF]),
    ] {
        for &from in from {
            let grown = bed.widen(id, config, from);
            let receipt = &grown.receipt;
            assert_eq!((receipt.claim, receipt.widths), (Some(Claim::Exact), Some([from, WHOLE])), "{id}");
            // Shares of weights are rounded to f32, which f64 sees.
            for (device, logits, loss_nats) in
                [(Device::Cpu { threads: None }, 1e-5, 1e-6), (Device::Reference, 1e-6, 1e-8)]
            {
                let jump = jump(bed.shape(), &grown, device);
                let kept = jump.logits <= logits && jump.loss_nats <= loss_nats;
                assert!(kept, "{id} {config} from {from}: {jump:?}");
            }
        }
    }
}

/// Each for its own reason: neurons of another block, noise, layer norms of another variance.
#[test]
fn what_claims_less_changes_the_function() {
    let bed = Bed::small();
    for (id, config, from, claim, least) in [
        ("sapwood/aki", "{}", FEWER_NEURONS, Claim::None, 1e-5),
        ("sapwood/aki", "{}", HALF, Claim::None, 1e-5),
        ("sapwood/net2net", r#"{ "noise": 0.2 }"#, FEWER_NEURONS, Claim::Approximate, 1e-5),
        ("sapwood/net2net", r#"{ "noise": 0.2 }"#, HALF, Claim::Approximate, 1e-5),
        ("sapwood/net2net", "{}", THREE_QUARTERS_OF_A_STREAM, Claim::None, 1e-4),
        ("sapwood/lemon", "{}", THREE_QUARTERS_OF_A_STREAM, Claim::Approximate, 1e-9),
    ] {
        let grown = bed.widen(id, config, from);
        assert_eq!(grown.receipt.claim, Some(claim), "{id}");
        let jump = jump(bed.shape(), &grown, Device::Reference);
        assert!(jump.loss_nats > least, "{id} {config} from {from}: {jump:?}");
        assert!(claim == Claim::None || jump.loss_nats < 0.1, "{id} {config} from {from}: {jump:?}");
    }
}

/// Neurons that were there keep their place, incoming weights and AdamW state; all other tensors are untouched.
#[test]
fn what_stood_there_stands_there() {
    let [before, after] = NEURONS;
    let same_bits = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits());
    for id in ["sapwood/net2net", "sapwood/aki", "sapwood/lemon"] {
        let grown = Bed::small().widen(id, "{}", FEWER_NEURONS);
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
        let grown = Bed::small().widen(id, "{}", FEWER_NEURONS);
        assert_eq!(unmoved(&grown), [""; 0], "{id}");
        assert!(twins(&grown).iter().all(|[a, b]| (a == b) == are_alike), "{id}");
    }
}

/// What a case's initializer makes of a block of the golden model, or of what its blocks share.
fn widened(case: &Value, shape: &ModelShape, wide: &ModelShape, layer: LayerId) -> Block {
    let old = [block(shape, 4), block(shape, 16)];
    let embeddings = shared(shape);
    let (existing, old_specs, specs) = if layer == SHARED {
        (vec![(SHARED, &embeddings)], shape.shared_tensors(), wide.shared_tensors())
    } else {
        let blocks = vec![(LayerId(0), &old[0]), (LayerId(1), &old[1])];
        (blocks, shape.block_tensors(), wide.block_tensors())
    };
    let position = if layer == SHARED { 0 } else { layer.0 as usize };
    let source = Some(layer);
    let asked = Asked { layer, position, source, depth_after: 2, existing, old_specs, specs, original: None };
    asked.made(shape, case)
}

/// In place of a block's identity.
const SHARED: LayerId = LayerId(plugin_host::api::LayerId::SHARED.0);

#[test]
fn wider_models_and_their_loss_are_those_that_numpy_made() {
    let golden: Value =
        serde_json::from_str(include_str!("../golden/initializers/golden.json")).expect("JSON");
    let bed = Bed::small();
    let cases = golden["widened"].as_array().expect("cases");
    for case in cases {
        let what = format!("{} {} {}", case["id"], case["config"], case["widths"]);
        let number = |at: usize| case["widths"][at].as_u64().expect("a number") as usize;
        let widths = engine::Widths { width: number(0), heads: number(1), mlp_width: number(2) };
        let (shape, wide) = (bed.shape(), bed.shape().with_widths(widths));
        let check = |specs: Vec<engine::TensorSpec>, ours: &Block, theirs: &Value| {
            for (spec, values) in specs.iter().zip(ours) {
                for (number, ours) in summary(values).into_iter().enumerate() {
                    let theirs = theirs[spec.class.0][number].as_f64().expect("a number");
                    let near = (ours - theirs).abs() <= RELATIVE * ours.abs().max(1.0);
                    assert!(near, "{what}: {}, {number}: {ours}, NumPy has {theirs}", spec.class);
                }
            }
        };
        let blocks = [0, 1].map(|layer| widened(case, shape, &wide, LayerId(layer)));
        for (layer, block) in blocks.iter().enumerate() {
            check(wide.block_tensors(), block, &case["blocks"][layer]);
        }
        let is_resized = widths.width != shape.width;
        let embeddings = if is_resized { widened(case, shape, &wide, SHARED) } else { shared(shape) };
        check(wide.shared_tensors(), &embeddings, &case["shared"]);
        let mut model = model_of(&wide, &embeddings, &blocks.each_ref());
        let ours = loss(&wide, &mut *model, &batch_of(&wide, |i| 5 * i * i + 3 * i));
        let theirs = case["loss"].as_f64().expect("a number");
        assert!((ours - theirs).abs() <= LOSS_NATS, "{what}: {ours}, NumPy has {theirs}");
        let before = golden["loss_before"].as_f64().expect("a number");
        assert_eq!((theirs - before).abs() < 1e-6, case["keeps"] == true, "{what}");
    }
    assert_eq!(cases.len(), 14);
}
