//! Frames over a pair of pipes: four bytes of length, then the message. Reading has a time limit.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A message beyond that is rubbish, 256 MiB.
const LARGEST_BYTES: usize = 256 << 20;

/// Why nothing was received.
#[derive(Debug)]
pub(super) enum Silence {
    /// The other end is closed.
    Closed,
    /// Nothing came in time.
    TooLate,
    /// What came is no message.
    Rubbish(String),
}

/// One end of the conversation.
pub(super) struct Pipe<W, R> {
    to: W,
    from: R,
    received: Vec<u8>,
    sending: Vec<u8>,
}

impl<W: Write, R: Read + AsFd> Pipe<W, R> {
    pub(super) fn new(to: W, from: R) -> Pipe<W, R> {
        Pipe { to, from, received: Vec::new(), sending: Vec::new() }
    }

    pub(super) fn send(&mut self, message: &impl Serialize) -> Result<(), Silence> {
        self.sending.clear();
        self.sending.extend([0; 4]);
        let sending = std::mem::take(&mut self.sending);
        let encoded = postcard::to_extend(message, sending);
        self.sending = encoded.map_err(|error| Silence::Rubbish(error.to_string()))?;
        let length = self.sending.len() - 4;
        if length > LARGEST_BYTES {
            return Err(Silence::Rubbish(format!("a message of {length} bytes is too long")));
        }
        self.sending[..4].copy_from_slice(&(length as u32).to_le_bytes());
        // A reader that is gone shows as an error here (Rust programs ignore SIGPIPE), and is told apart below.
        self.to.write_all(&self.sending).and_then(|()| self.to.flush()).map_err(|_| Silence::Closed)
    }

    /// Waits for a message, without end where there is no limit.
    pub(super) fn receive<T: DeserializeOwned>(&mut self, limit: Option<Duration>) -> Result<T, Silence> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let whole = self.length()?.map(|length| 4 + length);
            if let Some(end) = whole.filter(|&end| self.received.len() >= end) {
                let message = postcard::from_bytes(&self.received[4..end]);
                self.received.drain(..end);
                return message.map_err(|error| Silence::Rubbish(error.to_string()));
            }
            self.wait(deadline)?;
            let mut chunk = [0; 16 << 10];
            match self.from.read(&mut chunk) {
                Ok(0) => return Err(Silence::Closed),
                Ok(count) => self.received.extend(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Err(Silence::Closed),
            }
        }
    }

    fn length(&self) -> Result<Option<usize>, Silence> {
        let Some(bytes) = self.received.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*bytes) as usize;
        if length > LARGEST_BYTES {
            return Err(Silence::Rubbish(format!("a message of {length} bytes is announced")));
        }
        Ok(Some(length))
    }

    fn wait(&self, deadline: Option<Instant>) -> Result<(), Silence> {
        let Some(deadline) = deadline else { return Ok(()) };
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.from, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => return Err(Silence::TooLate),
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(Silence::Closed),
            }
        }
    }
}
