//! Work that goes on beside training, on a thread of its own, one piece at a time: the writing of checkpoints. Not here: what
//! is written, and what it is a copy of.

use std::thread::{Builder, JoinHandle};

use crate::TrainError;

/// At most one piece of work in flight; its failure is told to whoever asks next.
#[derive(Default)]
pub(super) struct Writer {
    in_flight: Option<JoinHandle<Result<(), TrainError>>>,
}

impl Writer {
    /// Has the work done, after that which is in flight.
    ///
    /// # Errors
    /// What went wrong with that, or no thread.
    pub(super) fn begin(
        &mut self,
        work: impl FnOnce() -> Result<(), TrainError> + Send + 'static,
    ) -> Result<(), TrainError> {
        self.wait()?;
        let thread = Builder::new().name("checkpoint".into()).spawn(work);
        let thread =
            thread.map_err(|error| TrainError::Internal(format!("no thread to save with: {error}")))?;
        self.in_flight = Some(thread);
        Ok(())
    }

    /// Takes no time: what is in flight stays there.
    ///
    /// # Errors
    /// What went wrong with work that is over.
    pub(super) fn check(&mut self) -> Result<(), TrainError> {
        if self.in_flight.as_ref().is_some_and(JoinHandle::is_finished) { self.wait() } else { Ok(()) }
    }

    /// Waits for what is in flight.
    ///
    /// # Errors
    /// What went wrong with it.
    pub(super) fn wait(&mut self) -> Result<(), TrainError> {
        let Some(thread) = self.in_flight.take() else { return Ok(()) };
        let panicked = |_| Err(TrainError::Internal("the thread that saves has panicked".into()));
        thread.join().unwrap_or_else(panicked)
    }
}

impl Drop for Writer {
    /// Where a run panics, what it was saving is still brought to its end, before its folder is somebody else's.
    fn drop(&mut self) {
        if let Err(error) = self.wait() {
            tracing::warn!("a checkpoint could not be saved: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn work_is_done_one_at_a_time_and_waited_for() {
        let (done, events) = channel();
        let mut writer = Writer::default();
        let (go, gate) = channel::<()>();
        let first = done.clone();
        writer
            .begin(move || {
                let _ = gate.recv();
                first.send(1).map_err(|error| TrainError::Internal(error.to_string()))
            })
            .expect("nothing is in flight");
        writer.check().expect("it is under way");
        assert!(events.try_recv().is_err(), "it is done beside");
        go.send(()).expect("it waits for that");
        writer
            .begin(move || done.send(2).map_err(|error| TrainError::Internal(error.to_string())))
            .expect("the first went well");
        assert_eq!(events.recv(), Ok(1), "the first is over before the second begins");
        drop(writer);
        assert_eq!(events.try_recv(), Ok(2), "the last is waited for");
    }

    #[test]
    fn a_failure_is_told_once() {
        let mut writer = Writer::default();
        writer.begin(|| Err(TrainError::Internal("no moon".into()))).expect("nothing is in flight");
        assert_eq!(writer.wait().expect_err("it failed").to_string(), "internal error: no moon");
        writer.wait().expect("that is over");
        writer.begin(|| panic!("the test says so")).expect("nothing is in flight");
        let told = writer.begin(|| Ok(())).expect_err("it panicked");
        assert_eq!(told.to_string(), "internal error: the thread that saves has panicked");
    }
}
