//! Damage by a seed: bytes and JSON that were good, changed, cut and put together anew; and the search through seeds.
//! What is read of it, and what has to come of that, stands with the test of each reader.
//!
//! `SAPWOOD_FUZZ_SECONDS=600` looks for so long, from the seed `SAPWOOD_FUZZ_FIRST` on; a seed that is named is tried alone with
//! `SAPWOOD_FUZZ_SEED`, and kept with its test once it is mended. What ends a search without a word (an abort, a case
//! without end) has left its seed in `target/tmp/fuzz-TARGET.seed`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

/// Longest that a case may keep its thread busy, however busy the machine is otherwise.
const LONGEST: Duration = Duration::from_secs(5);
/// Longest that it may take in all, where it waits for something.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Most memory that a process may have needed, however its files were damaged.
const MOST_MEMORY_KIB: u64 = 2 << 20;

/// Numbers of a seed (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    /// Numbers at which something ends.
    fn count(&mut self) -> u64 {
        let edges = [0_u64, 1, 2, 255, 256, 1 << 15, 1 << 16, 1 << 31, 1 << 32, 1 << 40, 1 << 53, 1 << 63];
        self.one_of(&edges).wrapping_sub(self.one_of(&[0, 0, 1]))
    }

    /// Changes some bytes, most often near the beginning or the end, where formats say what follows.
    pub(crate) fn bytes(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            if bytes.is_empty() {
                return;
            }
            let near = self.one_of(&[8, 64, 512]);
            let at = match self.below(3) {
                0 => self.below(near),
                1 => bytes.len().saturating_sub(1 + self.below(near)),
                _ => self.below(bytes.len()),
            };
            let at = at.min(bytes.len() - 1);
            let end = (at + 1 + self.below(near)).min(bytes.len());
            match self.below(11) {
                0 | 1 => bytes[at] ^= 1 << self.below(8),
                2 => bytes[at] = self.one_of(&[0, 1, 0x7f, 0x80, 0xff, b'{', b'"', b'0', b'9', b'-', b'\n']),
                3 => bytes.truncate(at),
                4 => bytes[at..end].fill(0xff),
                5 => drop(bytes.drain(at..end)),
                6 => {
                    let piece = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, piece);
                }
                7 => {
                    let piece: Vec<u8> = (0..end - at).map(|_| self.next() as u8).collect();
                    bytes.splice(at..at, piece);
                }
                8 => {
                    let digits = self.count().to_string();
                    bytes.splice(at..at, digits.into_bytes());
                }
                _ => {
                    let width = self.one_of(&[1, 2, 4, 8]).min(bytes.len() - at);
                    let number = self.count().to_le_bytes();
                    bytes[at..at + width].copy_from_slice(&number[..width]);
                }
            }
        }
    }

    /// Changes some values of a JSON text, which has to be one; `words` are some that its reader knows.
    pub(crate) fn json(&mut self, text: &mut Vec<u8>, words: &[&str]) {
        let mut value: Value = serde_json::from_slice(text).expect("it was good before");
        for _ in 0..=self.below(3) {
            let mut at = self.below(nodes(&value));
            let fresh = self.value(words);
            self.change(&mut value, &mut at, fresh);
        }
        *text = serde_json::to_vec(&value).expect("a value is written");
        if self.below(8) == 0 {
            self.bytes(text);
        }
    }

    fn value(&mut self, words: &[&str]) -> Value {
        let text = |dice: &mut Dice| {
            let odd = ["", "..", "../up", "/dev/zero", "/etc/passwd", "a/b", "\0", "\u{1f332}\n", "0"];
            match dice.below(20) {
                0 => "x".repeat(100_000),
                1..9 if !words.is_empty() => dice.one_of(words).to_owned(),
                _ => dice.one_of(&odd).to_owned(),
            }
        };
        match self.below(12) {
            0 => Value::Null,
            1 => Value::Bool(self.below(2) == 0),
            2 => serde_json::json!(-(self.below(100) as i64)),
            3 => serde_json::json!(self.one_of(&[0.5, -1.0, 1e-300, 1e300, 1e19])),
            4 => Value::Array(vec![]),
            5 => Value::Object(Map::new()),
            6 => Value::Array(vec![Value::from(self.count()); 3]),
            7..9 => Value::from(self.count()),
            _ => Value::String(text(self)),
        }
    }

    /// Changes the value that is that many away.
    fn change(&mut self, value: &mut Value, at: &mut usize, fresh: Value) {
        if *at == 0 {
            *at = usize::MAX;
            return self.replace(value, fresh);
        }
        *at -= 1;
        let children: Vec<&mut Value> = match value {
            Value::Array(items) => items.iter_mut().collect(),
            Value::Object(fields) => fields.values_mut().collect(),
            _ => return,
        };
        for child in children {
            if *at == usize::MAX {
                return;
            }
            self.change(child, at, fresh.clone());
        }
    }

    fn replace(&mut self, value: &mut Value, fresh: Value) {
        let place = self.next() as usize;
        match value {
            Value::Array(items) if !items.is_empty() && self.below(3) > 0 => {
                let at = place % items.len();
                match self.below(4) {
                    0 => drop(items.remove(at)),
                    1 => items.insert(at, fresh),
                    2 => items.extend(vec![items[at].clone(); 20]),
                    _ => items.reverse(),
                }
            }
            Value::Object(fields) if !fields.is_empty() && self.below(3) > 0 => {
                let name = fields.keys().nth(place % fields.len()).cloned().unwrap_or_default();
                match (self.below(4), &fresh) {
                    (0, _) => drop(fields.remove(&name)),
                    (1, Value::String(new)) => {
                        let moved = fields.remove(&name).unwrap_or_default();
                        fields.insert(new.clone(), moved);
                    }
                    _ => drop(fields.insert(name, fresh)),
                }
            }
            Value::Number(number) if self.below(2) == 0 => {
                let number = number.as_u64().unwrap_or_default();
                *value = self.one_of(&[number.wrapping_add(1), number.wrapping_sub(1), number << 1]).into();
            }
            value => *value = fresh,
        }
    }
}

/// Values within a value, itself among them.
fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(fields) => 1 + fields.values().map(nodes).sum::<usize>(),
        _ => 1,
    }
}

/// What a refusal has to say: something, with a file of that folder in it, and what to do.
pub(crate) fn check_told(seed: u64, folder: &Path, message: &str, hint: &str) {
    assert!(!message.is_empty() && !hint.is_empty(), "seed {seed} is refused without a word: {message}");
    let folder = folder.to_str().expect("temporary folders have plain names");
    assert!(message.contains(folder), "seed {seed} is refused, but which file is wrong? {message}");
}

/// Tries seeds: those that have found something once, and new ones.
pub(crate) fn search(target: &str, kept: &[u64], usual_cases: u64, check: impl Fn(u64)) {
    let note = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{target}.seed"));
    let timed = |seed: u64| {
        let (begun, busy) = (Instant::now(), busy());
        std::fs::write(&note, seed.to_string()).expect("room for a seed");
        check(seed);
        let (took, worked) = (begun.elapsed(), self::busy().saturating_sub(busy));
        assert!(
            worked < LONGEST && took < LONGEST_WAIT,
            "seed {seed} took {took:?}, {worked:?} of it at work"
        );
        let needed = most_memory_kib();
        assert!(needed < MOST_MEMORY_KIB, "seed {seed} has needed {needed} KiB");
    };
    if let Some(seed) = from_environment("SAPWOOD_FUZZ_SEED") {
        return timed(seed);
    }
    let seconds = from_environment("SAPWOOD_FUZZ_SECONDS").map(Duration::from_secs);
    let (begun, first) = (Instant::now(), from_environment("SAPWOOD_FUZZ_FIRST").unwrap_or(1));
    let goes_on = |seed| seconds.map_or(seed < first + usual_cases, |seconds| begun.elapsed() < seconds);
    let new = (first..).take_while(|&seed| goes_on(seed));
    let (mut last, mut cases) = (first, 0);
    for seed in kept.iter().copied().chain(new) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| timed(seed))) {
            // A test whose cases panic on purpose keeps quiet until here.
            drop(std::panic::take_hook());
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            panic!("seed {seed} of {target}: {}", text.unwrap_or("a panic without a text"));
        }
        (last, cases) = (seed, cases + 1);
    }
    let _ = std::fs::remove_file(&note);
    report(target, cases, last, begun.elapsed());
}

/// How long this thread has been at work so far; no time where the system does not tell.
fn busy() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(told.split(' ').next().and_then(|nanoseconds| nanoseconds.parse().ok()).unwrap_or(0))
}

/// The most that this process has had in memory; 0 where the system does not tell.
fn most_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[expect(clippy::print_stdout, reason = "shown with --nocapture: how much was tried")]
fn report(target: &str, cases: u64, last: u64, took: Duration) {
    let rate = cases as f64 / took.as_secs_f64();
    let memory = most_memory_kib() >> 10;
    println!(
        "{target}: {cases} cases up to seed {last}, {rate:.0} a second, at most {memory} MiB, no finding"
    );
}
