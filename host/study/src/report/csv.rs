//! `curves.csv`: what runs measured, for other programs.

use crate::{EvaluationPoint, RunCurve};

/// `curves.csv`: every evaluation of every run that finished, a line each.
pub(crate) fn render(curves: &[RunCurve]) -> String {
    let mut text = "arm,budget,seed,step,tokens,flops,flops_weight_matmul,flops_li2024,wall_seconds,joules,loss_nats_per_token\n".to_owned();
    for RunCurve { arm, budget, seed, points, .. } in curves {
        for point in points {
            let EvaluationPoint { step, tokens, .. } = point;
            // Whole numbers: for people they are rounded.
            let [flops, weight_matmul, li2024] =
                [point.flops, point.flops_weight_matmul, point.flops_li2024].map(|flops| flops.0);
            let (seconds, loss) = (point.wall_seconds, point.loss_nats_per_token);
            let joules = point.joules.map_or_else(String::new, |joules| joules.to_string());
            // Names of arms and budgets are names of folders: they need no quotes.
            text.push_str(&format!(
                "{arm},{budget},{seed},{step},{tokens},{flops},{weight_matmul},{li2024},{seconds},{joules},{loss}\n"
            ));
        }
    }
    text
}
