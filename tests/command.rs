//! A strategy that is a program: one in Python that decides, and some that die, hang, or answer rubbish.

use std::fs;

use crate::support::{self, Bench, json_lines, run_folders};

/// The tiny study, its second arm decided by a program.
fn decided_by(program: &str, config: &str) -> Bench {
    let strategy =
        format!("use = \"sapwood/command\"\n\n[arms.stack.strategy.config]\nprogram = {program}\n{config}");
    let stack = "use = \"sapwood/stack\"\n\n[arms.stack.strategy.config]\nfactor = 2\ngrow_after_steps = 15\noptimizer = \"copy\"\n";
    Bench::with(&[(stack, &strategy)])
}

/// A program of the shell that gives a plan and then does this before every step.
fn shell(before_step: &str) -> Bench {
    let script = format!(
        r#"while read -r line; do case "$line" in
*'"call":"hello"'*) echo '{{"protocol": 1}}' ;;
*'"call":"plan"'*) echo '{{"plan": {{"initial_depth": 1, "deepest": 2, "slots": ["new_blocks"]}}}}' ;;
*'"call":"save"'*) echo '{{"state": null}}' ;;
*'"call":"before_step"'*) {before_step} ;;
*) echo '{{"done": true}}' ;;
esac; done
"#
    );
    let bench = decided_by("[\"sh\", \"decide.sh\"]", "timeout_seconds = 1\n");
    bench.write("decide.sh", script);
    bench
}

#[test]
fn forty_lines_of_python_grow_a_model_and_go_on_after_a_stop() {
    if !support::has_python() {
        return;
    }
    let example = support::root().join("configs/strategy-in-python/grow.py");
    let source = fs::read_to_string(&example).expect("it is an example");
    assert!(source.lines().count() <= 40, "the example has grown to {} lines", source.lines().count());
    let program = "[\"python3\", \"grow.py\"]";
    let whole = decided_by(program, "config = { window = 4 }\n");
    whole.write("grow.py", &source);
    whole.study().good();
    let stacked =
        run_folders(&whole.path("out")).into_iter().filter(|run| run.to_string_lossy().contains("stack"));
    for run in stacked {
        let decisions = json_lines(&run.join("decisions.jsonl"));
        let grown = decisions.iter().filter(|decision| decision["decision"] == "edited").count();
        assert_eq!(grown, 1, "one block on top of one: {}", run.display());
    }

    // Run by run, each a host of its own; the program's state goes through the checkpoints.
    let parts = decided_by(program, "config = { window = 4 }\n");
    parts.write("grow.py", source.replace("say({\"done\": True})", "sys.exit(3) if call.get(\"step\") == 17 and not __import__(\"os\").path.exists(\"again\") else say({\"done\": True})"));
    let died = parts.study();
    assert_eq!(died.code, Some(6), "{}", died.said());
    assert!(died.stderr.contains("`python3` has ended: exit status: 3"), "{}", died.said());
    parts.write("again", "");
    parts.study().good();
    support::same_results(&whole.path("out"), &parts.path("out"));
}

#[test]
fn a_program_that_dies_hangs_or_answers_rubbish_is_named() {
    let done = "echo '{\"done\": true}'";
    let cases = [
        ("exit 7", "`sh` has ended: exit status: 7"),
        ("kill -9 $$", "`sh` has ended: signal: 9 (SIGKILL)"),
        ("exec 0<&- 1>&-; sleep 3", "`sh` has closed its standard input or output"),
        ("sleep 5", "`sh` has not answered `before_step` within 1 s (`timeout_seconds`)"),
        ("echo rubbish", "`sh` says `rubbish`, which is no JSON"),
        ("echo '[1]'", "`sh` says `[1]`; expected is a JSON object"),
        ("echo '{}'", "`sh` says `{}`; expected is {\"action\": …} or {\"done\": true}"),
        ("echo '{\"action\": {\"grow\": 3}}'", "`sh` requests {\"grow\":3}: unknown variant `grow`"),
        ("echo '{\"error\": \"I have had enough\"}'", "`sh`: I have had enough"),
    ];
    for (before_step, message) in cases {
        let ran = shell(before_step).study();
        assert_eq!(ran.code, Some(6), "{before_step}: {}", ran.said());
        let named = format!("the strategy `sapwood/command` failed in `before_step`: {message}");
        assert!(ran.stderr.contains(&named), "{before_step}: {}", ran.said());
    }
    shell(done).study().good();
}

#[test]
fn a_refused_request_is_told_to_the_program() {
    // Grows once more than the plan says, and stops the run with what it is told.
    let before_step = r#"echo '{"action": {"insert": {"above": "embedding", "count": 9, "slot": "new_blocks", "sources": [], "moments": "zero"}}}'; read -r answer; echo "{\"error\": \"told: $(echo "$answer" | tr -d '{}\"')\"}""#;
    let ran = shell(before_step).study();
    assert!(
        ran.stderr.contains("told: refused:9 more blocks on 1 exceed the 2 that the plan announced"),
        "{}",
        ran.said()
    );
}

#[test]
fn a_program_that_is_not_there_is_a_mistake_in_the_file() {
    let ran = decided_by("[\"no-such-program\"]", "").study();
    assert_eq!(ran.code, Some(3), "{}", ran.said());
    assert!(ran.stderr.contains("`no-such-program` cannot be started: "), "{}", ran.said());
    assert!(ran.stderr.contains("study.toml:"), "{}", ran.said());
}
