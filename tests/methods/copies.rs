//! Whose bits a new block's tensors are, with their AdamW states; and that growth touches nothing that was there.

use engine::{LayerId, Moments, Snapshot, TensorState};

use super::bed::{Bed, DEPTH, Grown, growth};

/// Sources of the two new blocks, neither of them beside the place where these go.
const SOURCES: [u64; 2] = [2, 0];

fn same_bits(one: &[f32], other: &[f32]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| a.to_bits() == b.to_bits())
}

fn same_state(one: &TensorState, other: &TensorState) -> bool {
    let same_moments = same_bits(&one.moments.first, &other.moments.first)
        && same_bits(&one.moments.second, &other.moments.second);
    same_bits(&one.weights, &other.weights) && same_moments && one.moments.updates == other.moments.updates
}

/// Tensors of the state before that are another after growth, in a bit of weights or of AdamW's state.
fn touched(before: &Snapshot, after: &Snapshot) -> Vec<String> {
    let is_same = |(tensor, state): &&(engine::TensorId, TensorState)| {
        after.tensors.iter().any(|(other, after)| other == tensor && same_state(state, after))
    };
    let touched = before.tensors.iter().filter(|tensor| !is_same(tensor));
    touched.map(|(tensor, _)| tensor.to_string()).collect()
}

/// Grows at every place, and asks `check` about each tensor of each new block: its class, its state, its source's.
fn check(id: &str, config: &str, check: impl Fn(&str, &TensorState, &TensorState)) {
    let bed = Bed::small();
    for position in 0..=DEPTH {
        let grown = bed.grow(id, config, &growth(position, 2, &SOURCES));
        assert_eq!(touched(&grown.before, &grown.after), [""; 0], "{id} {config}");
        let layers = &grown.after.layers[position..position + 2];
        assert_eq!(layers, grown.new_layers(), "they stand where they were asked to");
        for (&layer, source) in layers.iter().zip(SOURCES) {
            for class in bed.shape().block_tensors().iter().map(|spec| spec.class.0) {
                let source = Grown::tensor(&grown.before, LayerId(source), class);
                check(class, Grown::tensor(&grown.after, layer, class), source);
            }
        }
    }
}

fn is_branch_output(class: &str) -> bool {
    class.contains("c_proj")
}

#[test]
fn a_copy_is_its_source_with_its_adamw_state() {
    check("sapwood/copy", "{}", |class, new, source| {
        assert!(same_state(new, source), "{class}");
        assert_eq!(source.moments.updates, 6, "{class}: a source that has trained");
    });
}

#[test]
fn zeroed_blocks_are_copies_but_for_the_last_maps() {
    check("sapwood/zero-out", "{}", |class, new, source| {
        if is_branch_output(class) {
            assert!(same_bits(&new.weights, &vec![0.0; new.weights.len()]), "{class}");
        } else {
            assert!(same_bits(&new.weights, &source.weights), "{class}");
        }
        assert_eq!(new.moments, Moments::zero(new.weights.len()), "{class}");
    });
}

#[test]
fn blocks_with_zero_norms_are_copies_in_their_matrices() {
    check("sapwood/ln-zero", "{}", |class, new, source| {
        let is_matrix = class.ends_with("weight") && !class.starts_with("ln_");
        let wanted = if is_matrix { source.weights.clone() } else { vec![0.0; new.weights.len()] };
        assert!(same_bits(&new.weights, &wanted), "{class}");
        assert_eq!(new.moments, Moments::zero(new.weights.len()), "{class}");
    });
}

/// The limits at which an initializer is a copy, or a copy of the block above that.
#[test]
fn at_their_limits_initializers_copy() {
    check("sapwood/copy-noise", r#"{ "eta": 0 }"#, |class, new, source| {
        assert!(same_state(new, source), "{class}");
    });
    check("sapwood/split-residual", r#"{ "copies": 1 }"#, |class, new, source| {
        assert!(same_state(new, source), "{class}");
    });
    for (id, config) in
        [("sapwood/lerp", r#"{ "t": 0 }"#), ("sapwood/shrink-perturb", r#"{ "lambda": 1, "kappa": 0 }"#)]
    {
        check(id, config, |class, new, source| {
            assert!(same_bits(&new.weights, &source.weights), "{id}: {class}");
            assert_eq!(new.moments, Moments::zero(new.weights.len()), "{id}: {class}");
        });
    }
    let grown = Bed::small().grow("sapwood/lerp", r#"{ "t": 1 }"#, &growth(1, 2, &SOURCES));
    for (&layer, above) in grown.new_layers().iter().zip([2, 1]) {
        for class in Bed::small().shape().block_tensors().iter().map(|spec| spec.class.0) {
            let (new, above) = (
                Grown::tensor(&grown.after, layer, class),
                Grown::tensor(&grown.before, LayerId(above), class),
            );
            assert!(same_bits(&new.weights, &above.weights), "{class}: there is none above the topmost");
        }
    }
}

/// A sum with one block in it is that block, whichever it is; a sum of two neighbours is what lies between them.
#[test]
fn a_sum_of_one_block_is_a_copy() {
    let (bed, id) = (Bed::small(), "sapwood/linear-combination");
    let alone = r#"{ "weights": [{ "offset": 1, "weight": 0 }, { "offset": 0, "weight": 1 }] }"#;
    check(id, alone, |class, new, source| {
        assert!(same_bits(&new.weights, &source.weights), "{class}");
        assert_eq!(new.moments, Moments::zero(new.weights.len()), "{class}");
    });
    let classes = || bed.shape().block_tensors().into_iter().map(|spec| spec.class.0);
    // The topmost block and the lowest are their own neighbours.
    for (offset, neighbours) in [(1, [2, 1]), (-1, [1, 0]), (-2, [0, 0])] {
        let config = format!(r#"{{ "weights": [{{ "offset": {offset}, "weight": 1 }}] }}"#);
        let grown = bed.grow(id, &config, &growth(1, 2, &SOURCES));
        for (&layer, neighbour) in grown.new_layers().iter().zip(neighbours) {
            for class in classes() {
                let new = Grown::tensor(&grown.after, layer, class);
                let neighbour = Grown::tensor(&grown.before, LayerId(neighbour), class);
                assert!(same_bits(&new.weights, &neighbour.weights), "{config}: {class}");
            }
        }
    }
    let between = r#"{ "weights": [{ "offset": 1, "weight": 0.3 }, { "offset": 0, "weight": 0.7 }] }"#;
    let (sum, lerp) = (
        bed.grow(id, between, &growth(1, 2, &SOURCES)),
        bed.grow("sapwood/lerp", r#"{ "t": 0.3 }"#, &growth(1, 2, &SOURCES)),
    );
    for (&layer, class) in
        sum.new_layers().iter().flat_map(|layer| classes().map(move |class| (layer, class)))
    {
        let [sum, lerp] = [&sum, &lerp].map(|grown| &Grown::tensor(&grown.after, layer, class).weights);
        assert!(same_bits(sum, lerp), "block {layer}: {class}");
    }
}

/// Of the topmost block the upper neighbour is itself, and what lies between a block and itself is that block.
#[test]
fn between_a_block_and_itself_is_that_block() {
    let bed = Bed::small();
    for (position, is_zeroed) in [(0, false), (DEPTH, false), (0, true), (DEPTH, true)] {
        let config = format!(r#"{{ "heads": 2, "zero_out": {is_zeroed} }}"#);
        let grown = bed.grow("sapwood/ot-average", &config, &growth(position, 2, &SOURCES));
        assert_eq!(touched(&grown.before, &grown.after), [""; 0], "{config}");
        let [of_topmost, of_lowest] = grown.new_layers()[..] else { panic!("two were asked for") };
        for class in bed.shape().block_tensors().iter().map(|spec| spec.class.0) {
            let new = |layer| Grown::tensor(&grown.after, layer, class);
            let source = Grown::tensor(&grown.before, LayerId(2), class);
            let is_zero = is_zeroed && is_branch_output(class);
            let wanted = if is_zero { vec![0.0; source.weights.len()] } else { source.weights.clone() };
            assert!(same_bits(&new(of_topmost).weights, &wanted), "{config}: {class}");
            assert_eq!(same_bits(&new(of_lowest).weights, &wanted), is_zero, "{config}: {class}");
            for layer in [of_topmost, of_lowest] {
                assert_eq!(new(layer).moments, Moments::zero(wanted.len()), "{config}: {class}");
            }
        }
    }
}

/// Away from its limits: noise in the matrices, with the source's AdamW state.
#[test]
fn noisy_copies_have_their_sources_moments() {
    check("sapwood/copy-noise", "{}", |class, new, source| {
        let is_matrix = class.ends_with("weight") && !class.starts_with("ln_");
        assert_eq!(!same_bits(&new.weights, &source.weights), is_matrix, "{class}");
        assert_eq!(new.moments, source.moments, "{class}");
    });
}

/// So that the checks above are not passed by whatever grows.
#[test]
fn blocks_of_the_initial_model_are_no_copies() {
    let grown = Bed::small().grow("sapwood/original", "{}", &growth(1, 1, &[]));
    let new = Grown::tensor(&grown.after, grown.new_layers()[0], "mlp.c_fc.weight");
    for layer in &grown.before.layers {
        let old = Grown::tensor(&grown.before, *layer, "mlp.c_fc.weight");
        assert!(!same_state(new, old) && !same_bits(&new.weights, &old.weights), "block {layer}");
    }
}
