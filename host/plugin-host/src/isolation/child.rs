//! The child's side: loads one plugin and calls it as it is told, until the host closes the pipe.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Resource, Rlimit, setrlimit};
use sapwood_plugin::host::open;
use sapwood_plugin::{
    Action, ActionSink, Actions, Block, BlockView, Error, Evaluation, GrowthStrategy, InitContext, Key, Kind,
    LayerId, LayerInitializer, LossPoint, MetricReporter, MomentsRule, Pushed, Result, StepContext,
    TensorView,
};

use super::message::{Answer, Context, Init, Reply, Request, State};
use super::pipe::{Pipe, Silence};
use super::tensors::{ToFill, ToRead};
use crate::log;

type HostPipe = Pipe<File, File>;

enum Plugin {
    Strategy(Box<dyn GrowthStrategy>),
    Initializer(Box<dyn LayerInitializer>),
    Reporter(Box<dyn MetricReporter>),
}

/// Hosts one plugin, over standard input and output, until the other side closes them.
///
/// # Errors
/// What keeps it from talking to the host.
pub fn serve() -> std::result::Result<(), String> {
    let (from, to) = private_streams().map_err(|error| format!("cannot take over the pipes: {error}"))?;
    end_with_the_host(&from);
    let mut pipe = Pipe::new(File::from(to), File::from(from));
    log::into_waiting();
    let Some(first) = next(&mut pipe)? else { return Ok(()) };
    let mut plugin = match opened(first) {
        Ok((plugin, copies_moments)) => {
            send(&mut pipe, &Reply::Opened { copies_moments })?;
            plugin
        }
        Err(error) => return send(&mut pipe, &Reply::Failed(error.into())),
    };
    while let Some(request) = next(&mut pipe)? {
        let reply = plugin.answer(request, &mut pipe).unwrap_or_else(|error| Reply::Failed(error.into()));
        send(&mut pipe, &reply)?;
    }
    Ok(())
}

/// The pipes under numbers of their own, so that a plugin that prints or reads does not touch them.
fn private_streams() -> std::io::Result<(OwnedFd, OwnedFd)> {
    let from = std::io::stdin().as_fd().try_clone_to_owned()?;
    let to = std::io::stdout().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok((from, to))
}

/// A plugin that hangs must not outlive a host that was killed.
fn end_with_the_host(from: &OwnedFd) {
    let Ok(from) = from.try_clone() else { return };
    std::thread::spawn(move || {
        loop {
            let mut waited = [PollFd::new(&from, PollFlags::empty())];
            let hung_up = poll(&mut waited, None)
                .is_ok_and(|_| waited[0].revents().intersects(PollFlags::HUP | PollFlags::ERR));
            if hung_up {
                // The main thread has a moment to drop the plugin in good order.
                std::thread::sleep(std::time::Duration::from_millis(300));
                #[allow(clippy::exit)]
                std::process::exit(0);
            }
        }
    });
}

fn next(pipe: &mut HostPipe) -> std::result::Result<Option<Request>, String> {
    match pipe.receive(None) {
        Ok(request) => Ok(Some(request)),
        Err(Silence::Closed | Silence::TooLate) => Ok(None),
        Err(Silence::Rubbish(what)) => Err(format!("the host says what this process does not know: {what}")),
    }
}

/// What was logged goes before what is answered.
fn send(pipe: &mut HostPipe, reply: &Reply) -> std::result::Result<(), String> {
    let lines = log::take_waiting().into_iter();
    let mut lines = lines.map(|(library, level, text)| Reply::Logged(library, level, text));
    let sent = lines.try_for_each(|line| pipe.send(&line)).and_then(|()| pipe.send(reply));
    sent.map_err(|silence| format!("the host does not listen: {silence:?}"))
}

fn opened(request: Request) -> Result<(Plugin, bool)> {
    let Request::Open { library, kind, id, config, memory_limit_bytes } = request else {
        return Err(Error::new("the host did not say what to load"));
    };
    let library = open(&library).map_err(|refusal| Error::new(refusal.reason))?;
    limit_memory(memory_limit_bytes)?;
    Ok(match kind {
        Kind::Strategy => (Plugin::Strategy(library.strategy(&id, &config)?), false),
        Kind::Reporter => (Plugin::Reporter(library.reporter(&id, &config)?), false),
        Kind::Initializer => {
            let initializer = library.initializer(&id, &config)?;
            let copies = initializer.moments() == MomentsRule::CopyFromSource;
            (Plugin::Initializer(initializer), copies)
        }
    })
}

/// Private writable memory alone: the tensors, which are the host's, do not count.
fn limit_memory(bytes: u64) -> Result<()> {
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    Ok(setrlimit(Resource::Data, limit)?)
}

impl Plugin {
    fn answer(&mut self, request: Request, pipe: &mut HostPipe) -> Result<Reply> {
        match (self, request) {
            (Plugin::Strategy(strategy), request) => strategy_answers(&mut **strategy, request, pipe),
            (Plugin::Initializer(initializer), request) => match request {
                Request::Init(init) => initialized(&mut **initializer, &init).map(Reply::Claim),
                Request::Save => Ok(Reply::State(initializer.save()?.into())),
                Request::Restore(state) => done(initializer.restore(&state.into())),
                other => unexpected(&other),
            },
            (Plugin::Reporter(reporter), request) => match request {
                Request::Start(session) => done(reporter.start(&session)),
                Request::Event(event) => done(reporter.event(&serde_json::from_str(&event)?)),
                Request::Flush => done(reporter.flush()),
                Request::Finish => done(reporter.finish()),
                other => unexpected(&other),
            },
        }
    }
}

fn strategy_answers(
    strategy: &mut dyn GrowthStrategy,
    request: Request,
    pipe: &mut HostPipe,
) -> Result<Reply> {
    match request {
        Request::Plan(run) => {
            let plan = strategy.plan(&serde_json::from_str(&run)?)?;
            Ok(Reply::Plan(serde_json::to_string(&plan)?))
        }
        Request::BeforeStep(context) => before_step(strategy, &context, pipe),
        Request::OnEvent(event) => {
            let event = serde_json::from_str(&event)?;
            done(strategy.on_event(&event, &mut Actions::new(&mut HostSink { pipe })))
        }
        Request::Save => Ok(Reply::State(State::from(strategy.save()?))),
        Request::Restore(state) => done(strategy.restore(&state.into())),
        other => unexpected(&other),
    }
}

fn done(result: Result<()>) -> Result<Reply> {
    result.map(|()| Reply::Done)
}

fn unexpected(request: &Request) -> Result<Reply> {
    Err(Error::new(format!("this kind of plugin has no call for {request:?}")))
}

fn before_step(strategy: &mut dyn GrowthStrategy, sent: &Context, pipe: &mut HostPipe) -> Result<Reply> {
    let block =
        |&(id, born_at_step, trains): &(u64, u64, u64)| Block { id: LayerId(id), born_at_step, trains };
    let loss = |&(step, loss_nats_per_token): &(u64, f64)| LossPoint { step, loss_nats_per_token };
    let evaluation = |&(step, tokens, loss_nats_per_token): &(u64, u64, f64)| Evaluation {
        step,
        tokens,
        loss_nats_per_token,
    };
    let blocks: Vec<Block> = sent.blocks.iter().map(block).collect();
    let losses: Vec<LossPoint> = sent.losses.iter().map(loss).collect();
    let evaluations: Vec<Evaluation> = sent.evaluations.iter().map(evaluation).collect();
    let context = StepContext {
        step: sent.step,
        tokens: sent.tokens,
        flops: sent.flops,
        learning_rate: sent.learning_rate,
        progress: sent.progress,
        phase: &sent.phase,
        blocks: &blocks,
        losses: &losses,
        evaluations: &evaluations,
    };
    done(strategy.before_step(&context, &mut Actions::new(&mut HostSink { pipe })))
}

/// Passes a strategy's requests up and waits for the answer.
struct HostSink<'a> {
    pipe: &'a mut HostPipe,
}

impl ActionSink for HostSink<'_> {
    fn push(&mut self, action: Action) -> Result<Pushed> {
        let gone = |silence: Silence| Error::new(format!("the host does not answer: {silence:?}"));
        self.pipe.send(&Reply::Push(action)).map_err(gone)?;
        match self.pipe.receive(None).map_err(gone)? {
            Request::Pushed(Answer::Taken) => Ok(Pushed::Taken),
            Request::Pushed(Answer::FirstLayer(layer)) => Ok(Pushed::FirstLayer(LayerId(layer))),
            Request::Pushed(Answer::Refused(fault)) => Err(fault.into()),
            other => Err(Error::new(format!("the host answers a request with {other:?}"))),
        }
    }
}

fn initialized(initializer: &mut dyn LayerInitializer, init: &Init) -> Result<sapwood_plugin::Claim> {
    let mut filled = ToFill::map(&init.target)?;
    let mapped =
        init.existing.iter().map(|(_, block)| ToRead::map(block)).collect::<std::io::Result<Vec<_>>>()?;
    let views: Vec<Vec<TensorView<'_>>> = mapped.iter().map(ToRead::views).collect();
    let existing: Vec<BlockView<'_>> = (init.existing.iter().zip(&views))
        .map(|((id, _), tensors)| BlockView { id: LayerId(*id), tensors })
        .collect();
    let original = ToRead::map(&init.original)?;
    let original = original.views();
    let context = InitContext {
        layer: LayerId(init.layer),
        position: init.position,
        depth_before: init.depth_before,
        depth_after: init.depth_after,
        final_depth: init.final_depth,
        init_std: init.init_std,
        key: Key(init.key),
        source: init.source.map(LayerId),
        existing: &existing,
        original: &original,
    };
    initializer.init(&context, &mut filled.tensors())
}
