//! Completions and manual pages: they are what the shells and `man` take, and offer what the help offers.

use std::process::Command;

use crate::support::Bench;

#[test]
fn bash_takes_its_completions_and_completes_commands_and_files() {
    let bench = Bench::new();
    bench.write("sapwood.bash", bench.sapwood(&["completions", "bash"]).good());
    let answers = |words: &str| {
        let script = format!(
            "source sapwood.bash; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _sapwood sapwood \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; \
             printf '%s\n' \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash")
            .args(["--norc", "-c", &script])
            .current_dir(bench.path("."))
            .output()
            .expect("bash starts");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).expect("names are text")
    };
    assert_eq!(answers("sapwood stud"), "study\n");
    assert_eq!(answers("sapwood plugin va"), "validate\n");
    assert_eq!(answers("sapwood study --exe"), "--executor\n");
    assert_eq!(answers("sapwood plugin-"), "\n", "what is hidden is not offered");
}

#[test]
fn zsh_and_fish_have_theirs() {
    let bench = Bench::new();
    let zsh = bench.sapwood(&["completions", "zsh"]).good();
    assert!(zsh.starts_with("#compdef sapwood") && zsh.contains("'verify-resume:"), "{zsh}");
    let fish = bench.sapwood(&["completions", "fish"]).good();
    assert!(fish.contains("complete -c sapwood") && fish.contains("-a \"verify-resume\""), "{fish}");
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("man")).expect("a folder");
    bench.sapwood(&["manual", "man"]).good();
    let page = |name: &str| std::fs::read_to_string(bench.path("man").join(name)).expect(name);
    assert!(page("sapwood.1").contains("Exit codes: 0 good"));
    assert!(page("sapwood-study.1").contains("\\-\\-executor"));
    assert!(page("sapwood-plugin-validate.1").contains(".TH"));
    assert!(!bench.path("man/sapwood-plugin-host.1").exists(), "what is hidden has no page");
}

#[test]
fn a_manual_that_cannot_be_written_says_where() {
    let ran = Bench::new().sapwood(&["manual", "nowhere"]);
    let said = ran.said();
    assert!(said.contains("error: the manual cannot be written to nowhere"), "{said}");
    assert!(said.ends_with("exit 8\n"), "{said}");
}
