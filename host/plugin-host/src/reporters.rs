//! Reporters run on threads of their own behind bounded queues: a slow or dead one never slows training.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sapwood_plugin::{MetricReporter, RunEvent, SessionFacts};

use crate::{Loaded, PluginError, TimeSpent};

/// Step events that wait at most; beyond, they are dropped and counted.
const QUEUE_CAPACITY: usize = 1024;
/// How long the queue may stay empty before what the reporter holds back is written out.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How long a reporter may take to finish before it is left behind.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// The reporters of a study.
pub struct Reporters {
    running: Vec<Running>,
}

struct Running {
    id: String,
    queue: Arc<Queue>,
    thread: JoinHandle<Served>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<Arc<RunEvent>>,
    dropped: u64,
    closed: bool,
    dead: bool,
}

/// What a reporter's thread leaves.
struct Served {
    /// Why the reporter left the study, if it did.
    failure: Option<String>,
    spent: TimeSpent,
}

/// How a reporter's work ended.
#[derive(Clone, Debug, PartialEq)]
pub struct ReporterEnd {
    /// The reporter.
    pub id: String,
    /// Step events that it was too slow for.
    pub dropped_events: u64,
    /// Why it left the study, if it did.
    pub failure: Option<String>,
    /// What its calls have taken, beside training; `None` where it never came back.
    pub spent: Option<TimeSpent>,
}

impl Reporters {
    /// Starts each on a thread of its own.
    pub fn start(reporters: Vec<Loaded<dyn MetricReporter>>, session: &SessionFacts) -> Reporters {
        let running = reporters
            .into_iter()
            .map(|reporter| {
                let queue = Arc::new(Queue::default());
                let (session, for_thread) = (session.clone(), Arc::clone(&queue));
                let id = reporter.provenance.id.clone();
                let thread = std::thread::spawn(move || serve(reporter, &session, &for_thread));
                Running { id, queue, thread }
            })
            .collect();
        Reporters { running }
    }

    /// Passes an event on; never waits.
    pub fn send(&self, event: RunEvent) {
        let event = Arc::new(event);
        for reporter in &self.running {
            reporter.queue.push(&event);
        }
    }

    /// Waits until all events are handled, a reporter that hangs excepted.
    pub fn finish(self) -> Vec<ReporterEnd> {
        for reporter in &self.running {
            reporter.queue.close();
        }
        let deadline = Instant::now() + FINISH_WITHIN;
        self.running.into_iter().map(|reporter| reporter.end(deadline)).collect()
    }
}

impl Running {
    fn end(self, deadline: Instant) -> ReporterEnd {
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
        let dropped_events = self.queue.lock().dropped;
        let (failure, spent) = if self.thread.is_finished() {
            match self.thread.join() {
                Ok(Served { failure, spent }) => (failure, Some(spent)),
                Err(_) => (Some(format!("the reporter `{}` panicked", self.id)), None),
            }
        } else {
            let (id, limit) = (&self.id, FINISH_WITHIN.as_secs());
            (Some(format!("the reporter `{id}` did not finish within {limit} s")), None)
        };
        ReporterEnd { id: self.id, dropped_events, failure, spent }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: &Arc<RunEvent>) {
        let mut state = self.lock();
        if state.dead {
            return;
        }
        if event.may_be_dropped() && state.events.len() >= QUEUE_CAPACITY {
            state.dropped += 1;
            return;
        }
        state.events.push_back(Arc::clone(event));
        self.changed.notify_one();
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_one();
    }

    fn die(&self) {
        let mut state = self.lock();
        state.dead = true;
        state.events.clear();
    }

    /// The next event; `None` when the queue stayed empty for a while, an error when it is closed.
    fn next(&self) -> Result<Option<Arc<RunEvent>>, Closed> {
        let mut state = self.lock();
        if state.events.is_empty() && !state.closed {
            let waited = self.changed.wait_timeout(state, FLUSH_AFTER);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        match state.events.pop_front() {
            None if state.closed => Err(Closed),
            event => Ok(event),
        }
    }
}

struct Closed;

/// The reporter's thread.
fn serve(mut reporter: Loaded<dyn MetricReporter>, session: &SessionFacts, queue: &Queue) -> Served {
    let failure = serve_all(&mut reporter, session, queue).err().map(|fault| {
        queue.die();
        tracing::warn!("{fault}; the study goes on without it");
        fault.to_string()
    });
    Served { failure, spent: reporter.take_time_spent() }
}

fn serve_all(
    reporter: &mut Loaded<dyn MetricReporter>,
    session: &SessionFacts,
    queue: &Queue,
) -> Result<(), PluginError> {
    reporter.ask("start", |reporter| reporter.start(session))?;
    loop {
        match queue.next() {
            Ok(Some(event)) => reporter.ask("event", |reporter| reporter.event(&event))?,
            Ok(None) => reporter.ask("flush", |reporter| reporter.flush())?,
            Err(Closed) => break,
        }
    }
    reporter.ask("flush", |reporter| reporter.flush())?;
    reporter.ask("finish", |reporter| reporter.finish())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use sapwood_plugin::{Error, Kind, Result};

    use super::*;

    struct Slow {
        seen: Sender<RunEvent>,
        pause: Duration,
        fails: bool,
    }

    impl MetricReporter for Slow {
        fn start(&mut self, _: &SessionFacts) -> Result<()> {
            Ok(())
        }

        fn event(&mut self, event: &RunEvent) -> Result<()> {
            std::thread::sleep(self.pause);
            if self.fails {
                return Err(Error::new("no paper left"));
            }
            Ok(self.seen.send(event.clone())?)
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }

        fn finish(&mut self) -> Result<()> {
            Ok(())
        }
    }

    fn session() -> SessionFacts {
        SessionFacts { study: "test".into(), folder: "unused".into(), runs: 1, terminal: false }
    }

    fn metric(step: u64) -> RunEvent {
        RunEvent::Metric { run: "a/seed-1".into(), step, key: "k".into(), value: 1.0 }
    }

    fn stopped() -> RunEvent {
        RunEvent::RunStopped { run: "a/seed-1".into(), reason: "test".into() }
    }

    #[test]
    fn a_slow_reporter_loses_step_events_never_lifecycle_events() {
        let (seen, events) = channel();
        let slow = Slow { seen, pause: Duration::from_micros(200), fails: false };
        let reporters =
            Reporters::start(vec![Loaded::built_in(Kind::Reporter, "t/slow", Box::new(slow))], &session());
        let before = Instant::now();
        for step in 0..5000 {
            reporters.send(metric(step));
        }
        reporters.send(stopped());
        assert!(before.elapsed() < Duration::from_millis(500), "sending does not wait for the reporter");
        let ends = reporters.finish();
        let events: Vec<RunEvent> = events.iter().collect();
        assert_eq!(events.last(), Some(&stopped()));
        assert_eq!(events.len() as u64 + ends[0].dropped_events, 5001);
        assert!(ends[0].dropped_events > 0 && ends[0].failure.is_none());
        // Start, every event that it saw, a flush at the end, finish; and a flush for every idle second.
        let calls = ends[0].spent.expect("it came back").calls;
        assert!(calls >= events.len() as u64 + 3, "{calls} calls");
    }

    #[test]
    fn a_failing_reporter_leaves_and_is_named() {
        let (seen, _events) = channel();
        let failing = Slow { seen, pause: Duration::ZERO, fails: true };
        let failing = Loaded::<dyn MetricReporter>::built_in(Kind::Reporter, "t/failing", Box::new(failing));
        let reporters = Reporters::start(vec![failing], &session());
        reporters.send(stopped());
        let failure = reporters.finish()[0].failure.clone();
        let wanted = "the reporter `t/failing` failed in `event`: no paper left";
        assert_eq!(failure.as_deref(), Some(wanted));
    }
}
