//! Steps and evaluations as TensorBoard event files, in `tensorboard` below each run's folder:
//! `tensorboard --logdir STUDY/runs` shows a study.
//!
//! The file is a sequence of TFRecords, each with masked CRC-32C sums of its length and of its bytes, each
//! an `Event` of TensorFlow's `event.proto`; the fields that are used are declared here. A run that goes on
//! starts a new file with a session mark, which makes TensorBoard drop what it read from that step on.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message;
use sapwood_plugin::{MetricReporter, Plugin, Result, RunEvent, SessionFacts};
use serde::Deserialize;

/// How much is written.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Every so many steps one is written.
    #[serde(default = "every_step")]
    every_steps: u64,
}

fn every_step() -> u64 {
    1
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
    #[prost(message, optional, tag = "7")]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Value>,
}

#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    /// 1 = start.
    #[prost(int32, tag = "1")]
    status: i32,
}

struct TensorBoard {
    config: Config,
    runs: HashMap<String, EventFile>,
}

struct EventFile(BufWriter<File>);

impl Plugin for TensorBoard {
    type Config = Config;

    fn new(config: Config) -> Result<TensorBoard> {
        if config.every_steps == 0 {
            return Err(sapwood_plugin::Error::new("must be at least 1").in_field("every_steps"));
        }
        Ok(TensorBoard { config, runs: HashMap::new() })
    }
}

impl MetricReporter for TensorBoard {
    fn start(&mut self, _: &SessionFacts) -> Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &RunEvent) -> Result<()> {
        if let RunEvent::RunStarted { run, folder, first_step, .. } = event {
            self.runs.insert(run.clone(), EventFile::create(&folder.join("tensorboard"), *first_step)?);
            return Ok(());
        }
        let every = self.config.every_steps;
        let Some(file) = event.run().and_then(|run| self.runs.get_mut(run)) else { return Ok(()) };
        match event {
            RunEvent::Step { step, loss_nats_per_token, gradient_norm, learning_rate, depth, .. }
                if step % every == 0 =>
            {
                let values = [
                    ("train/loss_nats_per_token", *loss_nats_per_token),
                    ("train/gradient_norm", *gradient_norm),
                    ("train/learning_rate", *learning_rate),
                    ("train/depth", *depth as f64),
                ];
                file.write_values(*step, &values)?;
            }
            RunEvent::Evaluated { step, loss_nats_per_token, .. } => {
                file.write_values(*step, &[("validation/loss_nats_per_token", *loss_nats_per_token)])?;
            }
            RunEvent::Metric { step, key, value, .. } => {
                file.write_values(*step, &[(&format!("strategy/{key}"), *value)])?;
            }
            RunEvent::RunFinished { .. } | RunEvent::RunStopped { .. } => file.0.flush()?,
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.runs.values_mut().try_for_each(|file| Ok(file.0.flush()?))
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()
    }
}

impl EventFile {
    fn create(folder: &Path, first_step: u64) -> Result<EventFile> {
        std::fs::create_dir_all(folder)?;
        let now = wall_time();
        let name = format!("events.out.tfevents.{:.0}.{}.sapwood.{first_step}", now, std::process::id());
        let mut file = EventFile(BufWriter::new(File::create(folder.join(name))?));
        let version =
            Event { wall_time: now, file_version: Some("brain.Event:2".into()), ..Event::default() };
        file.write(&version)?;
        if first_step > 0 {
            let mark = Some(SessionLog { status: 1 });
            let step = i64::try_from(first_step)?;
            file.write(&Event { wall_time: now, step, session_log: mark, ..Event::default() })?;
        }
        Ok(file)
    }

    fn write_values(&mut self, step: u64, values: &[(&str, f64)]) -> Result<()> {
        let value =
            |(tag, value): &(&str, f64)| Value { tag: (*tag).to_owned(), simple_value: *value as f32 };
        let summary = Some(Summary { value: values.iter().map(value).collect() });
        self.write(&Event { wall_time: wall_time(), step: i64::try_from(step)?, summary, ..Event::default() })
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let bytes = event.encode_to_vec();
        let length = (bytes.len() as u64).to_le_bytes();
        self.0.write_all(&length)?;
        self.0.write_all(&masked_crc32c(&length).to_le_bytes())?;
        self.0.write_all(&bytes)?;
        self.0.write_all(&masked_crc32c(&bytes).to_le_bytes())?;
        // At once and whole: who watches sees it, and a run that is killed leaves no half record behind.
        Ok(self.0.flush()?)
    }
}

/// As TFRecord wants it: rotated right by 15 bits, plus a constant.
fn masked_crc32c(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

fn wall_time() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

sapwood_plugin::export! {
    reporter TensorBoard {
        id: "sapwood/tensorboard",
        summary: "steps and evaluations as TensorBoard event files",
        page: include_str!("lib.rs"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the records back, sums checked.
    fn events(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at(12);
            let length = u64::from_le_bytes(head[..8].try_into().expect("8 bytes")) as usize;
            assert_eq!(masked_crc32c(&head[..8]).to_le_bytes(), head[8..]);
            let (body, rest) = rest.split_at(length);
            let (sum, rest) = rest.split_at(4);
            assert_eq!(masked_crc32c(body).to_le_bytes(), sum);
            events.push(Event::decode(body).expect("an event"));
            bytes = rest;
        }
        events
    }

    #[test]
    fn what_is_written_can_be_read_as_records() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut reporter = TensorBoard::new(Config { every_steps: 1 }).expect("a good option");
        let run = "a/tokens/seed-1".to_owned();
        let (path, first_step) = (folder.path().to_path_buf(), 3);
        reporter
            .event(&RunEvent::RunStarted { run: run.clone(), folder: path, first_step, most_steps: 9 })
            .expect("room for a file");
        reporter
            .event(&RunEvent::Evaluated { run, step: 3, tokens: 30, loss_nats_per_token: 2.5 })
            .expect("room for a record");
        // As if it had been killed here: nothing is flushed by hand.
        let files = std::fs::read_dir(folder.path().join("tensorboard")).expect("the folder");
        let file = files.flatten().next().expect("one file");
        let events = events(&std::fs::read(file.path()).expect("the file"));
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!(events[1].session_log.as_ref().map(|log| log.status), Some(1));
        let summary = events[2].summary.as_ref().expect("a summary");
        assert_eq!((events[2].step, summary.value[0].simple_value), (3, 2.5));
        assert_eq!(summary.value[0].tag, "validation/loss_nats_per_token");
    }

    /// The sum of "123456789" that the CRC-32C standard gives (RFC 3720 B.4 uses the same polynomial).
    #[test]
    fn the_sum_is_crc32c() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }
}
