//! Staged training's doubling keeps the dynamics of training: AdamW's moments after it are what the wider model's own gradient
//! gives (Shen et al., ICML 2022, arXiv 2203.06211; T8 of our methods). Seen in real runs of `sapwood/widen` in which weights
//! stand still and an AdamW without memory holds the gradient of tokens that are always the same.

use engine::{Moments, TensorId};

use super::bed::{Bed, Grown};

const HALVES: &str =
    r#""parts": [0.5, 1.0], "fractions": [0.75, 0.25], "axes": ["hidden_layers", "heads", "stream"]"#;

fn doubled(optimizer: &str) -> Grown {
    let strategy = format!(r#"{{ {HALVES}, "optimizer": "{optimizer}" }}"#);
    Bed::still().decided_by_library(["sapwood/widen", &strategy], ["sapwood/staged", "{}"])
}

/// The tensors whose moments the doubling does not leave as the wider model's gradient has them two steps later.
fn off(grown: &Grown) -> Vec<TensorId> {
    let pairs = grown.after.tensors.iter().zip(&grown.trained.tensors);
    let near = |(ours, theirs): (&[f32], &[f32]), tolerance: f32| {
        let largest = theirs.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
        ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() <= tolerance * largest)
    };
    let is_off = |ours: &Moments, theirs: &Moments| {
        !near((&ours.first, &theirs.first), 1e-5) || !near((&ours.second, &theirs.second), 1e-5)
    };
    let wrong = pairs.filter(|((_, ours), (_, theirs))| is_off(&ours.moments, &theirs.moments));
    wrong.map(|((tensor, _), _)| *tensor).collect()
}

#[test]
fn doubled_models_have_halves_and_quarters_of_moments_as_their_own_gradient_has_them() {
    let grown = doubled("staged");
    for ((tensor, before), (_, after)) in grown.before.tensors.iter().zip(&grown.after.tensors) {
        assert!(before.moments.first.iter().any(|&moment| moment != 0.0), "{tensor} has a gradient");
        // Repeated as they are in the final norm, halved and quartered elsewhere.
        let times = if tensor.class.0.starts_with("ln_f.") { 1.0 } else { 0.5 };
        let [first, second] = [before.moments.first[0] * times, before.moments.second[0] * times * times];
        assert_eq!([after.moments.first[0], after.moments.second[0]], [first, second], "{tensor}");
        assert_eq!((before.moments.updates, after.moments.updates), (6, 6), "{tensor}");
    }
    for ((tensor, after), (_, trained)) in grown.after.tensors.iter().zip(&grown.trained.tensors) {
        let moved = after.weights.iter().zip(&trained.weights).map(|(a, b)| (a - b).abs());
        assert!(moved.fold(0.0, f32::max) < 1e-25, "{tensor} stands still");
    }
    assert_eq!(off(&grown), []);
}

/// The same with moments that are padded, or begin anew: no tensor is right.
#[test]
fn other_rules_do_not() {
    for optimizer in ["copy", "reset"] {
        let grown = doubled(optimizer);
        assert_eq!(off(&grown).len(), grown.after.tensors.len(), "{optimizer}");
    }
}
