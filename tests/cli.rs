//! Help and errors word by word: what, where, what to do, and the exit code. What plugins do wrong stands in
//! `bad_plugins`.

use expect_test::{Expect, expect, expect_file};

use crate::support::{Bench, refused};

/// What `sapwood study` says to the tiny study with these passages replaced.
fn check(edits: &[(&str, &str)], expected: Expect) {
    let bench = Bench::with(edits);
    refused(&bench, &bench.study(), &expected);
}

/// The same of a key that the command line sets.
fn check_set(assignment: &str, expected: Expect) {
    let bench = Bench::new();
    let ran = bench.sapwood(&["study", "study.toml", "--out", "out", "--set", assignment]);
    refused(&bench, &ran, &expected);
}

#[test]
fn help_shows_every_command_with_an_example() {
    let mut all = String::new();
    help_of(&Bench::new(), &[], &mut all);
    expect_file!["snapshots/help.txt"].assert_eq(&all);
}

/// Adds a command's help, and that of the commands below it.
fn help_of(bench: &Bench, command: &[&str], all: &mut String) {
    let asked = [command, &["--help"]].concat();
    let help = bench.sapwood(&asked).good();
    *all += &format!("$ sapwood {}\n{help}\n", asked.join(" "));
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let name =
        |line: &str| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')).map(ToOwned::to_owned);
    let below: Vec<String> = list.filter_map(name).collect();
    assert!(!below.is_empty() || help.contains("Example: sapwood"), "{command:?} has no example");
    for line in &below {
        let name = line.split_whitespace().next().unwrap_or_default();
        if name != "help" {
            help_of(bench, &[command, &[name]].concat(), all);
        }
    }
}

#[test]
fn wrong_usage_is_told_apart_from_a_wrong_study() {
    let check = |args: &[&str], expected: Expect| expected.assert_eq(&Bench::new().sapwood(args).said());
    check(
        &["studdy"],
        expect![[r#"
        error: unrecognized subcommand 'studdy'

          tip: a similar subcommand exists: 'study'

        Usage: sapwood [OPTIONS] <COMMAND>

        For more information, try '--help'.
        exit 2
    "#]],
    );
    check(
        &["study"],
        expect![[r#"
        error: the following required arguments were not provided:
          <FILE>

        Usage: sapwood study <FILE>

        For more information, try '--help'.
        exit 2
    "#]],
    );
    check(
        &["study", "study.toml", "--jobs", "0"],
        expect![[r#"
            error: invalid value '0' for '--jobs <N>': it is a number from 1 on, or `auto`

            For more information, try '--help'.
            exit 2
        "#]],
    );
    check(
        &["study", "study.toml", "--devices", "0,1", "--device", "cuda"],
        expect![[r#"
        error: the argument '--devices <LIST>' cannot be used with '--device <DEVICE>'

        Usage: sapwood study --devices <LIST> <FILE>

        For more information, try '--help'.
        exit 2
    "#]],
    );
    check(
        &["study", "study.toml", "--devices", "0,x"],
        expect![[r#"
        error: invalid value 'x' for '--devices <LIST>': a list of a GPU's number, `cuda:N` or `cpu`

        For more information, try '--help'.
        exit 2
    "#]],
    );
    check(
        &["study", "study.toml", "--wait"],
        expect![[r#"
        error: '--wait' goes with '--executor slurm'

        Usage: sapwood [OPTIONS] <COMMAND>

        For more information, try '--help'.
        exit 2
    "#]],
    );
    check(
        &["study", "study.toml", "--executor", "slurm", "--devices", "0,1"],
        expect![[r#"
        error: '--devices <LIST>' goes with '--executor local': a task of Slurm has its own device, which '--sbatch=--gres=gpu:1' asks for

        Usage: sapwood [OPTIONS] <COMMAND>

        For more information, try '--help'.
        exit 2
    "#]],
    );
    check(
        &["study", "study.toml", "--device", "tpu"],
        expect![[r#"
        error: invalid value 'tpu' for '--device <DEVICE>': it is `auto`, `cpu`, `cuda` or `cuda:N`

        For more information, try '--help'.
        exit 2
    "#]],
    );
}

#[test]
fn a_file_that_is_missing_or_no_toml() {
    let bench = Bench::new();
    refused(
        &bench,
        &bench.sapwood(&["study", "stdy.toml", "--out", "out"]),
        &expect![[r#"
        error: cannot read stdy.toml: No such file or directory (os error 2)
          --> stdy.toml
        hint: check the path; configs/ holds examples
        exit 3
    "#]],
    );
    check(
        &[("heads = 2", "heads = = 2")],
        expect![[r#"
        error: extra `=`, expected nothing
          --> study.toml:13
        hint: this is not TOML; https://toml.io shows how it is written
        exit 3
    "#]],
    );
}

#[test]
fn an_unknown_key_gets_the_nearest_one() {
    check(
        &[("warmup_steps", "warm_up_steps")],
        expect![[r#"
        error: unknown key `schedule.warm_up_steps`
          --> study.toml:46
        hint: did you mean `warmup_steps`? known here: kind, rate, warmup_steps, final_fraction, decay_fraction
        exit 3
    "#]],
    );
    check(
        &[("[optimizer]", "[optimiser]")],
        expect![[r#"
            error: unknown key `optimiser`
              --> study.toml:36
            hint: did you mean `optimizer`? known here: study, model, initial_model, data, training, optimizer, schedule, budget, sweep, evaluation, checkpoints, audit, arms, reporters
            exit 3
        "#]],
    );
    check(
        &[("kind = \"constant\"", "kind = \"constnat\"")],
        expect![[r#"
        error: unknown value `constnat`
          --> study.toml:44
        hint: did you mean `constant`? known here: constant, linear, cosine, wsd
        exit 3
    "#]],
    );
    check_set(
        "model.head=2",
        expect![[r#"
            error: unknown key `model.head`
              --> --set model.head
            hint: did you mean `heads`? known here: layers, width, heads, context, vocabulary, init_std, norm_epsilon, mlp_width, block
            exit 3
        "#]],
    );
    // The plugin's own key, refused by the plugin, at its line in the file.
    check(
        &[("grow_after_steps", "grow_after_step")],
        expect![[r#"
        error: the strategy `sapwood/stack` refuses its configuration: unknown field `grow_after_step`, expected one of `factor`, `grow_after_fraction`, `grow_after_steps`, `optimizer`, `schedule`
          --> study.toml:74
        hint: `sapwood plugin inspect sapwood/stack` prints what it takes
        exit 3
    "#]],
    );
}

#[test]
fn a_value_of_the_wrong_type() {
    check(
        &[("steps = 40", "steps = \"forty\"")],
        expect![[r#"
        error: `budget.steps`: invalid type: string "forty", expected u64
          --> study.toml:49
        hint: give a value of that kind
        exit 3
    "#]],
    );
    check(
        &[("[1, 2]", "[1, -2]")],
        expect![[r#"
        error: `study.seeds[1]`: invalid value: integer `-2`, expected u64
          --> study.toml:6
        hint: give a value of that kind
        exit 3
    "#]],
    );
    check(
        &[("factor = 2", "factor = \"two\"")],
        expect![[r#"
        error: the strategy `sapwood/stack` refuses its configuration: invalid type: string "two", expected usize
          --> study.toml:73
        hint: `sapwood plugin inspect sapwood/stack` prints what it takes
        exit 3
    "#]],
    );
    check_set(
        "schedule.rate=fast",
        expect![[r#"
        error: `schedule.rate`: invalid type: string "fast", expected f64
          --> --set schedule.rate
        hint: give a value of that kind
        exit 3
    "#]],
    );
}

#[test]
fn a_key_that_is_missing() {
    check(
        &[("beta2 = 0.95\n", "")],
        expect![[r#"
        error: `optimizer.beta2` is missing
          --> study.toml:36
        hint: add it; no number that a result depends on has a default
        exit 3
    "#]],
    );
    check(
        &[("path = \"text.txt\"\n", "")],
        expect![[r#"
            error: `data`: `path` is missing: source "text" takes `path`, `validation_fraction` and `order`
              --> study.toml:26
            hint: compare with the studies in configs/
            exit 3
        "#]],
    );
    check(
        &[("factor = 2\n", "")],
        expect![[r#"
        error: the strategy `sapwood/stack` refuses its configuration: missing field `factor`
          --> study.toml:72
        hint: `sapwood plugin inspect sapwood/stack` prints what it takes
        exit 3
    "#]],
    );
}

#[test]
fn a_value_out_of_range() {
    check(
        &[("heads = 2", "heads = 0")],
        expect![[r#"
        error: `heads` is 0
          --> study.toml:13
        hint: choose 1 to 65536
        exit 3
    "#]],
    );
    check(
        &[("heads = 2", "heads = 3")],
        expect![[r#"
        error: 3 heads do not divide a width of 16
          --> study.toml:13
        hint: choose a divisor of 16, such as 2
        exit 3
    "#]],
    );
    check(
        &[("rate = 1e-2", "rate = -1e-2")],
        expect![[r#"
        error: `schedule.rate` is -0.01
          --> study.toml:45
        hint: choose a positive rate, at most 10
        exit 3
    "#]],
    );
    check_set(
        "schedule.rate=nan",
        expect![[r#"
        error: `schedule.rate` is NaN
          --> --set schedule.rate
        hint: choose a positive rate, at most 10
        exit 3
    "#]],
    );
    check(
        &[("beta1 = 0.9", "beta1 = 1.0")],
        expect![[r#"
        error: `optimizer.beta1` is 1
          --> study.toml:37
        hint: choose 0 to 0.999999
        exit 3
    "#]],
    );
    check(
        &[("[budget]\nsteps = 40", "[budget]\nsteps = 0")],
        expect![[r#"
        error: `budget.steps` is 0
          --> study.toml:49
        hint: choose at least 1
        exit 3
    "#]],
    );
    // Both would overflow when multiplied: 2^64 tokens are none.
    check_set(
        "budget.steps=288230376151711744",
        expect![[r#"
        error: `budget.steps` is 288230376151711744
          --> --set budget.steps
        hint: choose 1 to 10000000
        exit 3
    "#]],
    );
    check_set(
        "training.sequences_per_step=1152921504606846976",
        expect![[r#"
        error: `training.sequences_per_step` is 1152921504606846976
          --> --set training.sequences_per_step
        hint: choose 1 to 65536
        exit 3
    "#]],
    );
    check(
        &[("steps = 40", "tokens = 1000")],
        expect![[r#"
        error: 1000 tokens are no whole number of steps of 64
          --> study.toml:49
        hint: choose 960 or 1024
        exit 3
    "#]],
    );
    check(
        &[("[1, 2]", "[1, 1]")],
        expect![[r#"
        error: a seed stands in `study.seeds` twice
          --> study.toml:6
        hint: the same seed gives the same run; remove one
        exit 3
    "#]],
    );
    check(
        &[("baseline = \"whole\"", "baseline = \"hole\"")],
        expect![[r#"
        error: there is no arm `hole` to be the baseline
          --> study.toml:5
        hint: the arms are whole, stack
        exit 3
    "#]],
    );
    check(
        &[("mlp = \"gelu-tanh\"", "mlp = \"swi-glu\"")],
        expect![[r#"
        error: no engine implements the block BlockKind { norm: LayerNorm, position: Learned, mlp: SwiGlu, biases: true, tied_head: true }
          --> study.toml:19
        hint: GPT-2's block is the one implemented: norm = "layer-norm", position = "learned", mlp = "gelu-tanh", biases = true, tied_head = true
        exit 3
    "#]],
    );
}

#[test]
fn a_number_that_a_plugin_refuses_has_its_line() {
    check(
        &[("factor = 2", "factor = 3")],
        expect![[r#"
        error: arm `stack`: the strategy `sapwood/stack` refuses this run: a factor of 3 does not divide 2 layers
          --> study.toml:73
        hint: `sapwood plugin inspect sapwood/stack` prints what it takes
        exit 3
    "#]],
    );
    let staged = "use = \"sapwood/paper\"\n\n[arms.stack.strategy.config]\nstages = 3\nfreeze = \"none\"\n";
    let stacked = "use = \"sapwood/stack\"\n\n[arms.stack.strategy.config]\nfactor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n";
    check(
        &[(stacked, staged)],
        expect![[r#"
        error: arm `stack`: the strategy `sapwood/paper` refuses this run: 3 stages are more than the model's 2 layers
          --> study.toml:73
        hint: `sapwood plugin inspect sapwood/paper` prints what it takes
        exit 3
    "#]],
    );
    // The second stage would begin before the same step as the first, and never be seen.
    let empty = staged.replace("stages = 3", "stages = 2\nphase_steps = [[0], [5]]");
    check(
        &[(stacked, &empty)],
        expect![[r#"
        error: the strategy `sapwood/paper` refuses its configuration: a phase takes at least one step
          --> study.toml:74
        hint: `sapwood plugin inspect sapwood/paper` prints what it takes
        exit 3
    "#]],
    );
    check(
        &[(stacked, staged), ("steps = 40", "steps = 3")],
        expect![[r#"
        error: arm `stack`: the strategy `sapwood/paper` refuses this run: 3 stages are more than the model's 2 layers
          --> study.toml:73
        hint: `sapwood plugin inspect sapwood/paper` prints what it takes
        exit 3
    "#]],
    );
}

#[test]
fn an_override_that_makes_no_sense() {
    check_set(
        "schedule.rate",
        expect![[r#"
        error: `schedule.rate` sets nothing
          --> --set schedule.rate
        hint: write --set key=value, such as --set schedule.rate=1e-3
        exit 3
    "#]],
    );
    check_set(
        "schedule.rate.now=1",
        expect![[r#"
        error: `rate` in `schedule.rate.now` is a value, not a table
          --> --set schedule.rate.now=1
        hint: write --set key=value, such as --set schedule.rate=1e-3
        exit 3
    "#]],
    );
    check_set(
        "=1",
        expect![[r#"
        error: `` is no key
          --> --set =1
        hint: write --set key=value, such as --set schedule.rate=1e-3
        exit 3
    "#]],
    );
    check_set(
        "arms.stack.strategy.config.factor=1",
        expect![[r#"
        error: the strategy `sapwood/stack` refuses its configuration: a stack is repeated at least twice
          --> --set arms.stack.strategy.config.factor
        hint: `sapwood plugin inspect sapwood/stack` prints what it takes
        exit 3
    "#]],
    );
}

#[test]
fn data_that_are_missing_or_too_few() {
    check(
        &[("text.txt", "test.txt")],
        expect![[r#"
            error: ./test.txt does not exist
              --> study.toml:26
            hint: check the path; a relative one counts from the folder of the config file
            exit 4
        "#]],
    );
    check(
        &[("text.txt", ".")],
        expect![[r#"
            error: ./. is a folder, not a file
              --> study.toml:26
            hint: name a file
            exit 4
        "#]],
    );
    check(
        &[("validation_fraction = 0.1", "validation_fraction = 1.5")],
        expect![[r#"
            error: `data.validation_fraction` is 1.5, but has to be at least 0 and less than 1
              --> study.toml:26
            hint: 0.1 keeps the last tenth of the file for validation
            exit 4
        "#]],
    );
    check(
        &[("validation_fraction = 0.1", "validation_fraction = 0.0")],
        expect![[r#"
            error: the data has no validation part
              --> study.toml:26
            hint: set `data.validation_fraction` above 0, or name shards in `data.validation`
            exit 4
        "#]],
    );
    let check = |text: &str, expected: Expect| {
        let bench = Bench::with(&[("validation_fraction = 0.1", "validation_fraction = 0.4")]);
        bench.write("text.txt", text);
        refused(&bench, &bench.study(), &expected);
    };
    check(
        "",
        expect![[r#"
        error: ./text.txt is empty
          --> study.toml:26
        hint: was it written to the end? write or copy it again
        exit 4
    "#]],
    );
    check(
        "a few bytes",
        expect![[r#"
        error: the training part (./text.txt) holds 6 tokens, but one sequence of 16 targets needs 17
          --> study.toml:26
        hint: use more data, a shorter `model.context`, or fewer sequences at once
        exit 4
    "#]],
    );
    // Three sequences of 16 targets, where a step takes four.
    check(
        &"words ".repeat(15),
        expect![[r#"
        error: the training part (./text.txt) holds 54 tokens, but a batch of 4 sequences of 16 targets needs 65
          --> study.toml:26
        hint: use more data, a shorter `model.context`, or fewer sequences at once
        exit 4
    "#]],
    );
}

#[test]
fn a_plugin_that_nobody_offers() {
    check(
        &[("sapwood/stack", "sapwood/stock")],
        expect![[r#"
        error: there is no strategy `sapwood/stock`
          --> study.toml:70
        hint: did you mean `sapwood/stack`? `sapwood plugin list` shows what there is; searched BIN/plugins, BIN
        exit 5
    "#]],
    );
    check(
        &[("sapwood/copy", "sapwood/cpoy")],
        expect![[r#"
        error: there is no initializer `sapwood/cpoy`
          --> study.toml:67
        hint: did you mean `sapwood/copy`? `sapwood plugin list` shows what there is; searched BIN/plugins, BIN
        exit 5
    "#]],
    );
    check(
        &[("initializers.new_blocks", "initializers.old_blocks")],
        expect![[r#"
            error: arm `stack`: the strategy `sapwood/stack` wants an initializer for `new_blocks`, but none is named
              --> study.toml:67
            hint: add `initializers.new_blocks = { use = "…" }` to the arm; `sapwood plugin list` shows which there are
            exit 3
        "#]],
    );
    check(
        &[(
            "initializers.new_blocks = ",
            "initializers.spare = { use = \"sapwood/copy\" }\ninitializers.new_blocks = ",
        )],
        expect![[r#"
            error: arm `stack`: the strategy `sapwood/stack` has no slot `spare`
              --> study.toml:67
            hint: it has new_blocks
            exit 3
        "#]],
    );
    let bench = Bench::new();
    bench.add_to_study("\n[[reporters]]\nuse = \"sapwood/cvs\"\n");
    refused(
        &bench,
        &bench.study(),
        &expect![[r#"
        error: there is no reporter `sapwood/cvs`
          --> study.toml:78
        hint: did you mean `sapwood/csv`? `sapwood plugin list` shows what there is; searched BIN/plugins, BIN
        exit 5
    "#]],
    );
    expect![[r#"
        error: there is no strategy `sapwood/pepper`
        hint: did you mean `sapwood/paper`? `sapwood plugin list` shows what there is; searched BIN/plugins, BIN
        exit 5
    "#]].assert_eq(&bench.sapwood(&["plugin", "inspect", "sapwood/pepper"]).said());
}

#[test]
fn an_arm_that_the_study_does_not_have() {
    let bench = Bench::new();
    let ran = bench.sapwood(&["train", "study.toml", "--out", "out", "--arm", "stock"]);
    refused(
        &bench,
        &ran,
        &expect![[r#"
        error: there is no arm `stock`
          --> study.toml:63
        hint: choose one with --arm: whole, stack
        exit 3
    "#]],
    );
    refused(
        &bench,
        &bench.sapwood(&["train", "study.toml", "--out", "out"]),
        &expect![[r#"
        error: the study has several arms
          --> study.toml:63
        hint: choose one with --arm: whole, stack
        exit 3
    "#]],
    );
}

#[test]
fn the_folder_of_another_study_is_left_alone() {
    let bench = Bench::new();
    bench.study().good();
    let before = std::fs::read(bench.path("out/runs/whole/tokens/seed-1/DONE")).expect("a finished run");
    bench.write_study(&[("rate = 1e-2", "rate = 2e-2")]);
    expect![[r#"
        error: out/runs/whole/tokens/seed-1 holds a run of another configuration: `schedule.rate` was 0.01, now 0.02
        hint: choose another `--out`, or delete the folder
        exit 3
    "#]].assert_eq(&bench.study().said());
    let after = std::fs::read(bench.path("out/runs/whole/tokens/seed-1/DONE")).expect("it is still there");
    assert!(before == after, "it was trained again");
    expect![[r#"
        error: nowhere holds no study: there is no study.toml in it
        hint: name a folder that `sapwood study` has written to, such as runs/quickstart
        exit 3
    "#]]
    .assert_eq(&bench.sapwood(&["report", "nowhere"]).said());
}
