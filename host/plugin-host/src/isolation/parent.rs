//! The host's side: starts the child, and gives the authors' traits back.

use std::cell::RefCell;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use sapwood_plugin::{
    Actions, Claim, Error, Event, GrowthStrategy, InitContext, Kind, LayerInitializer, MetricReporter,
    MomentsRule, Plan, Result, RunEvent, RunFacts, Saved, SessionFacts, StepContext, TensorMut,
};

use super::message::{Context, Reply, Request};
use super::pipe::{Pipe, Silence};
use super::tensors::SharedTensors;
use super::{ChildProgram, call_limit, memory_limit_bytes};
use crate::{PluginError, log, registry};

/// How long making a plugin may take, the loading of its library included.
const OPEN_WITHIN: Duration = Duration::from_secs(60);
/// How long a child may take to end by itself.
const END_WITHIN: Duration = Duration::from_millis(500);

/// A plugin in a process of its own.
pub(crate) struct Isolated {
    child: Child,
    /// `None` once the child has ended, or was ended.
    pipe: Option<Pipe<ChildStdin, ChildStdout>>,
    copies_moments: bool,
    limit: Duration,
}

impl Isolated {
    /// Starts a child and has it load the plugin.
    ///
    /// # Errors
    /// No process to be had, a plugin that refuses its configuration, or one that ends the process while it is
    /// made.
    pub(crate) fn start(
        program: &ChildProgram,
        library: &Path,
        kind: Kind,
        id: &str,
        config: &str,
    ) -> std::result::Result<Isolated, PluginError> {
        let mut command = Command::new(&program.program);
        command.args(&program.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A group of its own: an interrupt at the terminal is for the host, which then saves with the child's help.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| PluginError::Host {
            message: format!("a process for the {kind} `{id}` cannot be started: {error}"),
        })?;
        let pipe = child.stdin.take().zip(child.stdout.take()).map(|(to, from)| Pipe::new(to, from));
        let limit = call_limit().max(OPEN_WITHIN);
        let mut isolated = Isolated { child, pipe, copies_moments: false, limit };
        let library = std::path::absolute(library).unwrap_or_else(|_| library.to_path_buf());
        let memory_limit_bytes = memory_limit_bytes();
        let open = Request::Open { library, kind, id: id.into(), config: config.into(), memory_limit_bytes };
        let opened = match isolated.call(&open) {
            Ok(opened) => opened,
            Err(error) if isolated.pipe.is_some() => return Err(registry::bad_config(kind, id, &error)),
            Err(error) => {
                let (id, call, message) = (id.to_owned(), "new".to_owned(), error.to_string());
                return Err(PluginError::Fault { kind, id, call, message });
            }
        };
        isolated.copies_moments = matches!(opened, Reply::Opened { copies_moments: true });
        isolated.limit = call_limit();
        Ok(isolated)
    }

    /// One call that asks for nothing in between.
    fn call(&mut self, request: &Request) -> Result<Reply> {
        self.send(request)?;
        self.receive()
    }

    fn done(&mut self, request: &Request) -> Result<()> {
        match self.call(request)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// One call during which a strategy may ask for something.
    fn call_with(&mut self, request: &Request, actions: &mut Actions<'_>) -> Result<()> {
        self.send(request)?;
        loop {
            match self.receive()? {
                Reply::Done => return Ok(()),
                Reply::Push(action) => self.send(&Request::Pushed(actions.push(action).into()))?,
                other => return Err(unexpected(&other)),
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<()> {
        let Some(pipe) = &mut self.pipe else { return Err(gone()) };
        let sent = pipe.send(request);
        sent.map_err(|silence| self.lost(&silence))
    }

    fn receive(&mut self) -> Result<Reply> {
        let limit = self.limit;
        loop {
            let Some(pipe) = &mut self.pipe else { return Err(gone()) };
            match pipe.receive(Some(limit)) {
                Ok(Reply::Logged(library, level, text)) => log::record(&library, log::level(level), &text),
                Ok(Reply::Failed(fault)) => return Err(fault.into()),
                Ok(reply) => return Ok(reply),
                Err(silence) => return Err(self.lost(&silence)),
            }
        }
    }

    /// What became of the child; it is not used again.
    fn lost(&mut self, silence: &Silence) -> Error {
        self.pipe = None;
        match silence {
            Silence::Closed => Error::new(format!("its process has ended: {}", self.end())),
            Silence::TooLate => {
                let seconds = self.limit.as_secs();
                self.kill();
                Error::new(format!("its process did not answer within {seconds} s and was ended"))
            }
            Silence::Rubbish(what) => {
                self.kill();
                Error::new(format!("its process answered rubbish and was ended: {what}"))
            }
        }
    }

    /// Waits for the child's end, which is near; answers how it ended.
    fn end(&mut self) -> String {
        let deadline = Instant::now() + END_WITHIN;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status.to_string(),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
                _ => {
                    self.kill();
                    return "it closed its pipe and was ended".into();
                }
            }
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn save(&mut self) -> Result<Saved> {
        match self.call(&Request::Save)? {
            Reply::State(state) => Ok(state.into()),
            other => Err(unexpected(&other)),
        }
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.done(&Request::Restore(saved.clone().into()))
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        // The child ends when its pipe is closed.
        if self.pipe.take().is_some() {
            self.end();
        }
    }
}

fn gone() -> Error {
    Error::new("its process has ended before")
}

fn unexpected(reply: &Reply) -> Error {
    Error::new(format!("its process answers {reply:?}, which was not asked"))
}

/// A strategy in a process of its own.
pub(crate) struct IsolatedStrategy(RefCell<Isolated>);

impl IsolatedStrategy {
    pub(crate) fn new(isolated: Isolated) -> IsolatedStrategy {
        IsolatedStrategy(RefCell::new(isolated))
    }
}

impl GrowthStrategy for IsolatedStrategy {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        match self.0.get_mut().call(&Request::Plan(serde_json::to_string(run)?))? {
            Reply::Plan(plan) => Ok(serde_json::from_str(&plan)?),
            other => Err(unexpected(&other)),
        }
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        let request = Request::BeforeStep(Context {
            step: context.step,
            tokens: context.tokens,
            flops: context.flops,
            learning_rate: context.learning_rate,
            progress: context.progress,
            phase: context.phase.into(),
            blocks: context
                .blocks
                .iter()
                .map(|block| (block.id.0, block.born_at_step, block.trains))
                .collect(),
            losses: context.losses.iter().map(|loss| (loss.step, loss.loss_nats_per_token)).collect(),
            evaluations: context
                .evaluations
                .iter()
                .map(|done| (done.step, done.tokens, done.loss_nats_per_token))
                .collect(),
        });
        self.0.get_mut().call_with(&request, actions)
    }

    fn on_event(&mut self, event: &Event, actions: &mut Actions<'_>) -> Result<()> {
        let request = Request::OnEvent(serde_json::to_string(event)?);
        self.0.get_mut().call_with(&request, actions)
    }

    fn save(&self) -> Result<Saved> {
        self.0.borrow_mut().save()
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.0.get_mut().restore(saved)
    }
}

/// An initializer in a process of its own.
pub(crate) struct IsolatedInitializer {
    isolated: RefCell<Isolated>,
    tensors: SharedTensors,
    moments: MomentsRule,
}

impl IsolatedInitializer {
    pub(crate) fn new(isolated: Isolated) -> Result<IsolatedInitializer> {
        let moments = if isolated.copies_moments { MomentsRule::CopyFromSource } else { MomentsRule::Zero };
        Ok(IsolatedInitializer { isolated: RefCell::new(isolated), tensors: SharedTensors::new()?, moments })
    }
}

impl LayerInitializer for IsolatedInitializer {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        let request = Request::Init(self.tensors.lay_out(context, target)?);
        let claim = match self.isolated.get_mut().call(&request)? {
            Reply::Claim(claim) => claim,
            other => return Err(unexpected(&other)),
        };
        self.tensors.read_back(target)?;
        Ok(claim)
    }

    fn moments(&self) -> MomentsRule {
        self.moments
    }

    fn save(&self) -> Result<Saved> {
        self.isolated.borrow_mut().save()
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.isolated.get_mut().restore(saved)
    }
}

/// A reporter in a process of its own.
pub(crate) struct IsolatedReporter(Isolated);

impl IsolatedReporter {
    pub(crate) fn new(isolated: Isolated) -> IsolatedReporter {
        IsolatedReporter(isolated)
    }
}

impl MetricReporter for IsolatedReporter {
    fn start(&mut self, session: &SessionFacts) -> Result<()> {
        self.0.done(&Request::Start(session.clone()))
    }

    fn event(&mut self, event: &RunEvent) -> Result<()> {
        self.0.done(&Request::Event(serde_json::to_string(event)?))
    }

    fn flush(&mut self) -> Result<()> {
        self.0.done(&Request::Flush)
    }

    fn finish(&mut self) -> Result<()> {
        self.0.done(&Request::Finish)
    }
}
