//! GrowLength: the whole model from the first step, on short sequences first and then on longer ones (Jin et al., arXiv
//! 2310.00576). A step reads as many tokens as the study says all the time, in more sequences while they are shorter;
//! these are the study's own rows, cut, so that every token is read once and in the same order as by the baseline.
//!
//! Attention is cheaper on short sequences, and positions beyond them learn nothing until they are reached. Lengths and
//! shares have no default here. No block comes or goes.
//!
//! Do embeddings and head freeze too? No: nothing is ever frozen.

use sapwood_plugin::{
    Actions, Batch, Error, GrowthStrategy, Plan, PlannedPhase, Plugin, Result, RunFacts, StepContext,
    check_shares, stage_starts,
};
use serde::Deserialize;

/// Which lengths, and for how long.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "parts": [4, 2, 1], "fractions": [0.25, 0.25, 0.5] }]))]
struct Config {
    /// Into how many sequences each of the study's rows is cut, stage by stage, falling to 1, the whole row; each must
    /// divide the model's context.
    parts: Vec<usize>,
    /// Shares of the token budget that each stage takes; they sum to 1.
    fractions: Vec<f64>,
}

struct GrowLength {
    config: Config,
    /// Each stage's first step, label and batch.
    stages: Vec<(u64, String, Batch)>,
}

impl Plugin for GrowLength {
    type Config = Config;

    fn new(config: Config) -> Result<GrowLength> {
        let Config { parts, fractions } = &config;
        let falls =
            parts.windows(2).all(|pair| pair[0] > pair[1]) && parts.last() == Some(&1) && parts.len() > 1;
        let checks = [
            ("parts", falls, "at least two are needed, each smaller than the one before, the last one 1"),
            ("fractions", fractions.len() == parts.len(), "there must be as many shares as `parts`"),
        ];
        match checks.into_iter().find(|(_, holds, _)| !holds) {
            Some((field, _, wanted)) => Err(Error::new(wanted).in_field(field)),
            None => {
                check_shares(&config.fractions).map_err(|error| error.in_field("fractions"))?;
                Ok(GrowLength { config, stages: Vec::new() })
            }
        }
    }
}

impl GrowthStrategy for GrowLength {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let (layers, context) = (run.model.layers, run.model.context);
        if let Some(parts) = self.config.parts.iter().find(|&&parts| context % parts != 0) {
            let wrong = format!("{parts} does not divide the model's context of {context} tokens");
            return Err(Error::new(wrong).in_field("parts"));
        }
        let starts = stage_starts(&self.config.fractions, run.budget.reference_steps)
            .map_err(|error| error.in_field("fractions"))?;
        let rows = run.tokens_per_step as usize / context.max(1);
        let stage = |(&parts, first_step): (&usize, u64)| {
            let batch = Batch { sequences: rows * parts, length: context / parts };
            (first_step, format!("length{}", batch.length), batch)
        };
        self.stages = self.config.parts.iter().zip(starts).map(stage).collect();
        let phase = |(number, (first_step, label, batch)): (usize, &(u64, String, Batch))| PlannedPhase {
            label: label.clone(),
            first_step: *first_step,
            steps: self.stages.get(number + 1).map(|(end, ..)| end - first_step),
            depth: layers,
            trains: format!("all, on {} sequences of {} tokens", batch.sequences, batch.length),
        };
        let phases = self.stages.iter().enumerate().map(phase).collect();
        Ok(Plan { phases, ..Plan::fixed_depth(layers, layers) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        if let Some((_, label, batch)) =
            self.stages.iter().find(|(first_step, ..)| *first_step == context.step)
        {
            actions.phase(label)?;
            actions.batch(*batch)?;
        }
        Ok(())
    }

    sapwood_plugin::stateless!();
}

sapwood_plugin::export! {
    strategy GrowLength {
        id: "sapwood/grow-length",
        summary: "no growth in depth; short sequences first, then longer ones (arXiv 2310.00576)",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{SimulatedRun, plugin};

    use super::GrowLength;

    const STAGES: &str = r#"{ "parts": [4, 2, 1], "fractions": [0.25, 0.25, 0.5] }"#;

    /// The simulated study has 8 rows of 16 tokens in a step.
    #[test]
    fn lengths_double_while_a_step_stays_as_large() {
        let mut strategy: GrowLength = plugin(STAGES).expect("a good configuration");
        let transcript = SimulatedRun::new(2, 40).drive(&mut strategy).expect("lengths that fit");
        let wanted = "starts with 2 of at most 2 blocks
before step 0: phase `length4`; batch 32 x 4
before step 10: phase `length8`; batch 16 x 8
before step 20: phase `length16`; batch 8 x 16
ends after 40 steps with blocks 0 1
";
        assert_eq!(transcript.to_string(), wanted);
        let planned: Vec<_> =
            transcript.plan.phases.iter().map(|phase| (phase.first_step, phase.steps)).collect();
        assert_eq!(planned, [(0, Some(10)), (10, Some(10)), (20, None)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (config, field) in [
            (r#"{ "parts": [1], "fractions": [1.0] }"#, "parts"),
            (r#"{ "parts": [1, 2], "fractions": [0.5, 0.5] }"#, "parts"),
            (r#"{ "parts": [4, 2], "fractions": [0.5, 0.5] }"#, "parts"),
            (r#"{ "parts": [2, 1], "fractions": [1.0] }"#, "fractions"),
            (r#"{ "parts": [2, 1], "fractions": [1.5, -0.5] }"#, "fractions"),
            (r#"{ "parts": [2, 1], "fractions": [0.5, 0.6] }"#, "fractions"),
        ] {
            let error = plugin::<GrowLength>(config).map(|_| ()).expect_err("refused");
            assert_eq!(error.field(), Some(field), "{config}");
        }
        for (config, steps, field) in
            [(r#"{ "parts": [3, 1], "fractions": [0.5, 0.5] }"#, 40, "parts"), (STAGES, 2, "fractions")]
        {
            let mut strategy: GrowLength = plugin(config).expect("the model is not known yet");
            let error = SimulatedRun::new(2, steps).drive(&mut strategy).expect_err("refused");
            assert_eq!(error.field(), Some(field), "{config}");
        }
    }
}
