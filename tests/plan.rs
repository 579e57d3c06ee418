//! What `sapwood plan` tells before anything runs: the paper's study by three ledgers, each number derived here from the model's shape,
//! and what runs take on disk and in time.

use serde_json::Value;

use crate::support::{Bench, root};

/// GPT-2 124M, and the paper's steps.
const LAYERS: f64 = 12.0;
const WIDTH: f64 = 768.0;
const VOCABULARY: f64 = 50_304.0;
const CONTEXT: f64 = 1024.0;
const TOKENS: f64 = 524_288.0;
const STAGED_STEPS: u64 = 10_000;

fn plan_of_the_paper() -> Value {
    let said = Bench::new().sapwood_from(root(), &["plan", "configs/paper/gpt2-124m.toml", "--json"]).good();
    serde_json::from_str(&said).expect("`--json` prints JSON")
}

fn arm<'a>(plan: &'a Value, name: &str) -> &'a Value {
    let arms = plan["arms"].as_array().expect("arms");
    arms.iter().find(|arm| arm["arm"] == name).expect("it is planned")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

/// FLOPs a token of a step on so many blocks, of which the `new` uppermost train beside all that is shared.
struct Step {
    depth: f64,
    new: f64,
}

impl Step {
    /// Products with weights: forward, input gradients down to the embeddings, which train, weight gradients of what does.
    fn weight_matmul(&self) -> f64 {
        let (block, head) = (2.0 * 12.0 * WIDTH * WIDTH, 2.0 * WIDTH * VOCABULARY);
        2.0 * (self.depth * block + head) + self.new * block + head
    }

    /// With causal attention, whose backward pass is due in every block, and AdamW on what trains.
    fn exact(&self) -> f64 {
        let attention = 2.0 * WIDTH * (CONTEXT + 1.0) * self.depth;
        let of_a_block = 12.0 * WIDTH * WIDTH + 13.0 * WIDTH;
        let shared = (VOCABULARY + CONTEXT + 2.0) * WIDTH;
        self.weight_matmul() + 3.0 * attention + 12.0 * (self.new * of_a_block + shared) / TOKENS
    }
}

/// Mean over all phases of all stages, as a share of a step of the whole model.
fn staged_share(stages: u64, cost: fn(&Step) -> f64) -> f64 {
    let new = LAYERS / stages as f64;
    let phases = (1..=stages).flat_map(|stage| {
        let depth = new * stage as f64;
        [Step { depth, new }, Step { depth, new: depth }]
    });
    let sum: f64 = phases.map(|phase| cost(&phase)).sum();
    sum / (2 * stages) as f64 / cost(&Step { depth: LAYERS, new: LAYERS })
}

fn rounded(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}

#[test]
fn the_papers_staged_parts_cost_what_the_shape_says_by_all_three_ledgers() {
    let plan = plan_of_the_paper();
    for (stages, matmul, exact) in [(4, 0.699, 0.694), (12, 0.632, 0.626)] {
        let planned = arm(&plan, &format!("s{stages}-freeze"));
        let (staged, s) = (&planned["staged"], stages as f64);
        let steps = staged["steps"].as_u64().expect("steps");
        assert_eq!(steps, 2 * stages * (STAGED_STEPS / (2 * stages)), "whole phases");
        let check = |ledger: &str, share: f64| {
            let (told, left) = (&staged[ledger]["share_of_baseline"], &staged[ledger]["baseline_steps_left"]);
            assert!((number(told) - share).abs() < 1e-9, "S = {stages}, {ledger}: {told} for {share}");
            let wanted = steps as f64 * (1.0 - share);
            assert!((number(left) - wanted).abs() < 1e-4, "S = {stages}, {ledger}: {left} for {wanted}");
        };
        let formula = (3.0 * s + 5.0) / (8.0 * s);
        check("li2024", formula);
        let continual = 5.0 / 8.0 * (1.0 - 1.0 / s) * steps as f64;
        assert!((steps as f64 * (1.0 - formula) - continual).abs() < 1e-6, "the paper's T_cont");
        check("weight_matmul", staged_share(stages, Step::weight_matmul));
        check("exact", staged_share(stages, Step::exact));
        assert_eq!(rounded(staged_share(stages, Step::weight_matmul)), matmul);
        assert_eq!(rounded(staged_share(stages, Step::exact)), exact);
    }
}

/// Blocks alone, as the closed form of what the paper's code does has it.
#[test]
fn without_the_head_the_closed_form_holds() {
    let plan = plan_of_the_paper();
    let blocks = |costs: &Value| -> f64 {
        let of = |term: &str| number(&costs["flops"][term]);
        of("block_forward") + of("block_input_gradient") + of("block_weight_gradient")
    };
    let whole = blocks(&arm(&plan, "baseline")["rehearsal"]["phases"][0]["step"]);
    for stages in [4, 12] {
        let phases =
            arm(&plan, &format!("s{stages}-freeze"))["rehearsal"]["phases"].as_array().expect("phases");
        let staged = &phases[..phases.len() - 1];
        let own: f64 = staged.iter().map(|phase| number(&phase["steps"]) * blocks(&phase["step"])).sum();
        let steps: f64 = staged.iter().map(|phase| number(&phase["steps"])).sum();
        let closed_form = (5.0 * stages as f64 + 7.0) / (12.0 * stages as f64);
        assert!((own / steps / whole - closed_form).abs() < 1e-12, "S = {stages}");
    }
}

#[test]
fn a_checkpoint_of_124m_parameters_is_told_with_one_and_a_half_gigabytes() {
    let plan = plan_of_the_paper();
    let disk = &arm(&plan, "s12-freeze")["disk_bytes"];
    let checkpoint = 12 * 124_475_904_u64;
    assert_eq!(disk["largest_checkpoint"], checkpoint);
    assert_eq!(disk["most"], 3 * checkpoint, "two are kept while a third is written");
    let said = Bench::new().sapwood_from(root(), &["plan", "configs/paper/gpt2-124m.toml"]).good();
    for words in [
        "checkpoints of up to 1.49 GB, 4.48 GB a run",
        "cost 0.531 of as many",
        "4687.5, 3",
        "21 runs in all, up to",
    ] {
        assert!(said.contains(words), "`{words}` is missing:\n{said}");
    }
}

/// Those that are on disk after a run are what was told, for a strategy that names one among them.
#[test]
fn what_is_on_disk_after_a_run_was_foreseen() {
    let bench = Bench::with(&[
        ("seeds = [1, 2]", "seeds = [1]"),
        ("compare = [\"tokens\", \"compute\"]", "compare = [\"tokens\"]"),
        ("every_steps = 10\nkeep = 2", "every_steps = 5"),
    ]);
    let plan: Value =
        serde_json::from_str(&bench.sapwood(&["plan", "study.toml", "--json"]).good()).expect("JSON");
    let told = arm(&plan, "whole")["disk_bytes"].clone();
    bench.sapwood(&["train", "study.toml", "--arm", "whole", "--out", "out"]).good();
    let folder = bench.path("out/runs/whole/tokens/seed-1/checkpoints");
    let checkpoints: Vec<_> = std::fs::read_dir(&folder).expect("checkpoints").flatten().collect();
    assert_eq!(checkpoints.len(), 2, "the default keeps two");
    let size = |name: &str| std::fs::metadata(checkpoints[0].path().join(name)).expect("a file").len();
    let written = size("weights.safetensors") + size("moments.safetensors");
    let foreseen = told["largest_checkpoint"].as_u64().expect("bytes");
    // Beside the numbers a file has names and shapes.
    assert!(written >= foreseen && written - foreseen < 16_384, "{written} written, {foreseen} foreseen");
}

#[test]
fn time_is_told_at_a_rate_that_is_measured_now() {
    let bench = Bench::new();
    let plan: Value =
        serde_json::from_str(&bench.sapwood(&["plan", "study.toml", "--time", "--json"]).good())
            .expect("JSON");
    assert!(number(&plan["rate"]["flops_per_second"]) > 1e6 && plan["rate"]["engine"] == "native", "{plan}");
    let said = bench.sapwood(&["plan", "study.toml", "--time"]).good();
    assert!(said.contains("GFLOP/s (engine `native`") && said.contains("a run takes"), "{said}");
    assert!(!bench.sapwood(&["plan", "study.toml"]).good().contains("GFLOP/s"), "only where it is asked for");
}
