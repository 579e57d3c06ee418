//! A growth strategy in any language: this plugin runs a program and speaks JSON lines with it, over the program's
//! standard input and output. What the program writes to standard error is shown as it is. On Unix.
//!
//! # Protocol, version 1
//!
//! The host writes one line with a `call`; the program answers with one line or several. It may answer any call by
//! `{"error": "a sentence"}`, which stops the run after a checkpoint.
//!
//! | the host writes | the program answers |
//! | --- | --- |
//! | `{"call": "hello", "protocol": 1, "config": …}` | `{"protocol": 1}` |
//! | `{"call": "plan", "run": {"model": {"layers": 12, "width": …}, "tokens_per_step": …, "budget": {"reference_steps": …, "flops": null}, "constant_rate": true}}` | `{"plan": {"initial_depth": 3, "deepest": 12, "slots": ["new_blocks"]}}` |
//! | `{"call": "before_step", "step": …, "tokens": …, "flops": …, "learning_rate": …, "progress": …, "phase": "…", "blocks": [{"id": 0, "born_at_step": 0, "trains": true}], "losses": [{"step": …, "loss": …}], "evaluations": [{"step": …, "tokens": …, "loss": …}]}` | requests, then `{"done": true}` |
//! | `{"call": "on_event", "event": {"event": "evaluated", …}}` | requests, then `{"done": true}` |
//! | `{"call": "save"}` | `{"state": …}`, any JSON |
//! | `{"call": "restore", "state": …}` | `{"done": true}` |
//!
//! `losses` and `evaluations` hold what was not shown before. A request is `{"action": …}`, with the action as the
//! decision log writes it: `{"insert": {"above": {"layer": 2}, "count": 3, "slot": "new_blocks", "sources": [0, 1, 2],
//! "moments": "copy-from-source"}}`, `{"train": {"layers": [3, 4, 5], "classes": null, "token_embedding": true,
//! "position_embedding": true, "final_norm": true, "head": true}}`, `{"phase": "label"}`, `{"stop": "why"}`, and for a plan
//! that says `"executes": true` `{"execute": [{"layer": 0, "attention_gate": 1, "mlp_gate": 1, "sequences": null}]}` and `{"gate":
//! [{"layer": 0, "attention": 0.5, "mlp": 0.5}]}`; in a host of revision 2 also `{"rates": [{"which": {"layers": [3]}, "factor":
//! 0.5}]}`, `{"batch": {"sequences": 8, "length": 64}}`, and `{"probe": {"candidates": [[], [REQUEST, …]], "steps": 100}}`, of which
//! `{"event": "probed", "losses": [[…], […]]}` tells what came. The host
//! answers each at once: `{"taken": true, "layers": [3, 4, 5]}` with the identities of new blocks, or
//! `{"refused": "why"}`.
//!
//! A program that ends, says nothing for `timeout_seconds`, or answers something else is an error that names it.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sapwood_plugin::{
    Action, Actions, Error, Event, GrowthStrategy, Plan, PlannedPhase, Plugin, Pushed, Result, RunFacts,
    Saved, StepContext,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The version of the protocol, and of the saved state.
const PROTOCOL: u32 = 1;
/// How long a program may take to end once it is told to.
const PARTING: Duration = Duration::from_millis(500);
const LONGEST_TIMEOUT_SECONDS: u64 = 24 * 60 * 60;
/// Longest line that a program may write, in bytes.
const LONGEST_LINE: u64 = 1 << 24;

/// Which program decides.
#[derive(Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("examples" = [{ "program": ["sh", "-c", EXAMPLE] }]))]
struct Config {
    /// The program and its arguments; a relative path is seen from where sapwood runs.
    program: Vec<String>,
    /// Seconds that it may take to answer, at most a day.
    #[serde(default = "usual_timeout")]
    timeout_seconds: u64,
    /// Handed to the program as it is.
    #[serde(default)]
    config: serde_json::Map<String, Value>,
}

/// Trains one block, whatever the model: the smallest program that answers every call.
const EXAMPLE: &str = r#"while read -r line; do case "$line" in
*'"call":"hello"'*) echo '{"protocol": 1}' ;;
*'"call":"plan"'*) echo '{"plan": {"initial_depth": 1, "deepest": 1}}' ;;
*'"call":"save"'*) echo '{"state": null}' ;;
*) echo '{"done": true}' ;;
esac; done"#;

fn usual_timeout() -> u64 {
    30
}

/// The plan as a program gives it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GivenPlan {
    initial_depth: usize,
    deepest: usize,
    #[serde(default)]
    slots: Vec<String>,
    #[serde(default)]
    phases: Vec<PlannedPhase>,
    #[serde(default)]
    executes: bool,
}

struct Strategy {
    program: RefCell<Program>,
    /// The last loss and evaluation that the program was shown.
    shown: [Option<u64>; 2],
}

impl Plugin for Strategy {
    type Config = Config;

    fn new(config: Config) -> Result<Strategy> {
        if !(1..=LONGEST_TIMEOUT_SECONDS).contains(&config.timeout_seconds) {
            let wrong = format!("choose 1 to {LONGEST_TIMEOUT_SECONDS} seconds to answer");
            return Err(Error::new(wrong).in_field("timeout_seconds"));
        }
        let mut program = Program::start(&config)?;
        let greeting = json!({ "call": "hello", "protocol": PROTOCOL, "config": config.config });
        let answer = program.ask(&greeting)?;
        if answer["protocol"] != PROTOCOL {
            return Err(program.wrong(&answer, &format!("{{\"protocol\": {PROTOCOL}}}")).in_field("program"));
        }
        Ok(Strategy { program: RefCell::new(program), shown: [None; 2] })
    }
}

impl GrowthStrategy for Strategy {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        let program = self.program.get_mut();
        let mut answer = program.ask(&json!({ "call": "plan", "run": run }))?;
        let plan: GivenPlan = serde_json::from_value(answer["plan"].take())
            .map_err(|error| Error::new(format!("{} gives no plan: {error}", program.name)))?;
        let GivenPlan { initial_depth, deepest, slots, phases, executes } = plan;
        Ok(Plan { slots, phases, executes, ..Plan::fixed_depth(initial_depth, deepest) })
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let [loss, evaluation] = self.shown;
        let losses = context.losses.iter().filter(|point| loss.is_none_or(|last| point.step > last));
        let evaluations = context.evaluations.iter();
        let evaluations = evaluations.filter(|point| evaluation.is_none_or(|last| point.step > last));
        let call = json!({
            "call": "before_step",
            "step": context.step,
            "tokens": context.tokens,
            "flops": context.flops,
            "learning_rate": context.learning_rate,
            "progress": context.progress,
            "phase": context.phase,
            "blocks": context.blocks.iter().map(|block| json!({
                "id": block.id, "born_at_step": block.born_at_step, "trains": block.trains != 0,
            })).collect::<Value>(),
            "losses": losses.map(|point| json!({
                "step": point.step, "loss": point.loss_nats_per_token,
            })).collect::<Value>(),
            "evaluations": evaluations.map(|point| json!({
                "step": point.step, "tokens": point.tokens, "loss": point.loss_nats_per_token,
            })).collect::<Value>(),
        });
        self.shown = [
            context.losses.last().map(|point| point.step).max(loss),
            context.evaluations.last().map(|point| point.step).max(evaluation),
        ];
        self.program.get_mut().decide(&call, actions)
    }

    fn on_event(&mut self, event: &Event, actions: &mut Actions<'_>) -> Result<()> {
        self.program.get_mut().decide(&json!({ "call": "on_event", "event": event }), actions)
    }

    fn save(&self) -> Result<Saved> {
        let mut answer = self.program.borrow_mut().ask(&json!({ "call": "save" }))?;
        let saved = json!({ "state": answer["state"].take(), "shown": self.shown });
        Ok(Saved { version: PROTOCOL, bytes: saved.to_string().into_bytes() })
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        if saved.version != PROTOCOL {
            return Err(Error::new(format!("the state has version {}, not {PROTOCOL}", saved.version)));
        }
        let mut saved: Value = serde_json::from_slice(&saved.bytes)?;
        let shown = serde_json::from_value(saved["shown"].take())?;
        let program = self.program.get_mut();
        let answer = program.ask(&json!({ "call": "restore", "state": saved["state"].take() }))?;
        if answer["done"] != true {
            return Err(program.wrong(&answer, "{\"done\": true}"));
        }
        self.shown = shown;
        Ok(())
    }
}

/// The program, and the line to it: a socket, since a pipe cannot be read with a limit of time.
struct Program {
    name: String,
    child: Child,
    to: UnixStream,
    from: BufReader<UnixStream>,
    timeout: Duration,
}

impl Program {
    fn start(config: &Config) -> Result<Program> {
        let Some((name, arguments)) = config.program.split_first() else {
            return Err(Error::new("there is no program").in_field("program"));
        };
        let (ours, theirs) = UnixStream::pair()?;
        let theirs: [Stdio; 2] =
            [Stdio::from(OwnedFd::from(theirs.try_clone()?)), OwnedFd::from(theirs).into()];
        let [input, output] = theirs;
        let started = Command::new(name).args(arguments).stdin(input).stdout(output).spawn();
        let child = started.map_err(|error| {
            Error::new(format!("`{name}` cannot be started: {error}")).in_field("program")
        })?;
        let timeout = Duration::from_secs(config.timeout_seconds);
        ours.set_write_timeout(Some(timeout))?;
        let from = BufReader::new(ours.try_clone()?);
        Ok(Program { name: format!("`{name}`"), child, to: ours, from, timeout })
    }

    /// One call that is answered by one line.
    fn ask(&mut self, call: &Value) -> Result<Value> {
        self.write(call)?;
        self.read(call)
    }

    /// One call during which the program may request something.
    fn decide(&mut self, call: &Value, actions: &mut Actions<'_>) -> Result<()> {
        self.write(call)?;
        loop {
            let mut answer = self.read(call)?;
            if answer.get("done") == Some(&Value::Bool(true)) {
                return Ok(());
            }
            if answer.get("action").is_none() {
                return Err(self.wrong(&answer, "{\"action\": …} or {\"done\": true}"));
            }
            let action = answer["action"].take();
            let action: Action = serde_json::from_value(action.clone())
                .map_err(|error| Error::new(format!("{} requests {action}: {error}", self.name)))?;
            let count = if let Action::Insert(insert) = &action { insert.count as u64 } else { 0 };
            let reply = match actions.push(action) {
                Ok(Pushed::FirstLayer(first)) => {
                    json!({ "taken": true, "layers": (first.0..first.0 + count).collect::<Vec<_>>() })
                }
                Ok(Pushed::Taken) => json!({ "taken": true }),
                Err(reason) => json!({ "refused": reason.message() }),
            };
            self.write(&reply)?;
        }
    }

    fn write(&mut self, line: &Value) -> Result<()> {
        // In one piece: a program that reads as it goes is not woken twice.
        let written = self.to.write_all(format!("{line}\n").as_bytes());
        written.map_err(|_| self.gone())
    }

    fn read(&mut self, call: &Value) -> Result<Value> {
        let until = Instant::now() + self.timeout;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let left = until.saturating_duration_since(Instant::now());
            self.from.get_ref().set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            let room = LONGEST_LINE.saturating_sub(line.len() as u64);
            match std::io::Read::take(&mut self.from, room).read_until(b'\n', &mut line) {
                Ok(0) if room == 0 => return Err(self.wrong(&Value::Null, "lines of at most 16 MiB")),
                Ok(0) => return Err(self.gone()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    let (name, seconds) = (&self.name, self.timeout.as_secs());
                    return Err(Error::new(format!(
                        "{name} has not answered `{}` within {seconds} s (`timeout_seconds`)",
                        call["call"].as_str().unwrap_or_default()
                    )));
                }
                Err(_) => return Err(self.gone()),
            }
        }
        let text = String::from_utf8_lossy(&line);
        let answer: Value = serde_json::from_str(&text).map_err(|_| {
            Error::new(format!("{} says `{}`, which is no JSON", self.name, short(text.trim())))
        })?;
        if !answer.is_object() {
            return Err(self.wrong(&answer, "a JSON object"));
        }
        match answer["error"].as_str() {
            Some(error) => Err(Error::new(format!("{}: {error}", self.name))),
            None => Ok(answer),
        }
    }

    fn wrong(&self, answer: &Value, expected: &str) -> Error {
        Error::new(format!("{} says `{}`; expected is {expected}", self.name, short(&answer.to_string())))
    }

    /// How the program ended.
    fn gone(&mut self) -> Error {
        let name = self.name.clone();
        match self.parted() {
            Some(status) => Error::new(format!("{name} has ended: {status}")),
            None => Error::new(format!("{name} has closed its standard input or output")),
        }
    }

    fn parted(&mut self) -> Option<std::process::ExitStatus> {
        let until = Instant::now() + PARTING;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }
}

/// The end of its input tells a program to go; one that stays is ended.
impl Drop for Program {
    fn drop(&mut self) {
        // What fails here concerns a program that is gone already.
        let _ = self.to.shutdown(std::net::Shutdown::Both);
        if self.parted().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into(),
    }
}

sapwood_plugin::export! {
    strategy Strategy {
        id: "sapwood/command",
        summary: "a strategy in any language: runs a program and speaks JSON lines with it",
        page: include_str!("lib.rs"),
    }
}
