//! One owner at any time, whoever asks when; and what a claim says of one that is gone.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::*;

const FAST: Pace = Pace { heartbeat: Duration::from_millis(50), lease: Duration::from_secs(1) };

struct Bed(tempfile::TempDir);

impl Bed {
    fn new() -> Bed {
        Bed(tempfile::tempdir().expect("a temporary folder"))
    }

    fn run(&self) -> RunFolder {
        RunFolder::at(self.0.path().join("run"))
    }

    fn take(&self) -> Taken {
        Claim::take(&self.run(), FAST).expect("a disk")
    }

    fn ours(&self) -> Claim {
        match self.take() {
            Taken::Ours(claim) => claim,
            Taken::Theirs(holder) => panic!("{holder} has it"),
        }
    }

    fn theirs(&self) -> Holder {
        match self.take() {
            Taken::Ours(_) => panic!("somebody else has it"),
            Taken::Theirs(holder) => holder,
        }
    }

    /// Puts somebody's claim there, that long after the last sign of life.
    fn claimed_by(&self, holder: &Holder, silent: Duration) {
        create_folder(self.run().path()).expect("room");
        self.write("CLAIM", holder, silent);
    }

    fn write(&self, name: &str, holder: &Holder, silent: Duration) {
        let path = self.run().path().join(name);
        fs::write(&path, serde_json::to_vec(holder).expect("a holder")).expect("room");
        aged(&path, silent);
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.run().path()).expect("a folder").flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn aged(path: &Path, silent: Duration) {
    let file = fs::File::options().write(true).open(path).expect("it is there");
    file.set_modified(SystemTime::now() - silent).expect("it is ours");
}

fn of_another_machine(token: &str) -> Holder {
    Holder {
        host: "node7".into(),
        boot: Some("another".into()),
        slurm_job: Some("12_3".into()),
        token: token.into(),
        ..Holder::this_process()
    }
}

/// Of a process of this machine that has ended.
fn dead(token: &str) -> Holder {
    let mut child = std::process::Command::new("true").spawn().expect("a Unix has `true`");
    let pid = i32::try_from(child.id()).expect("a number of a process");
    child.wait().expect("it is ours");
    Holder { pid, token: token.into(), ..Holder::this_process() }
}

#[test]
fn a_run_has_one_owner_until_it_lets_go() {
    let bed = Bed::new();
    let claim = bed.ours();
    let theirs = bed.theirs();
    assert_eq!(theirs.pid, i32::try_from(std::process::id()).expect("a number of a process"));
    assert_eq!(holder(&bed.run()), Some(theirs));
    std::thread::sleep(FAST.lease * 2);
    bed.theirs();
    assert!(!claim.has_lost_now());
    drop(claim);
    assert_eq!((bed.files(), holder(&bed.run())), (vec![], None));
    drop(bed.ours());
}

#[test]
fn a_living_claim_of_another_machine_is_respected_and_told() {
    let bed = Bed::new();
    bed.claimed_by(&of_another_machine("t"), Duration::ZERO);
    assert_eq!(bed.theirs().to_string(), "node7, Slurm job 12_3");
    // Its clock is an hour ahead.
    fs::File::options()
        .write(true)
        .open(bed.run().path().join("CLAIM"))
        .and_then(|file| file.set_modified(SystemTime::now() + Duration::from_secs(3600)))
        .expect("it is ours");
    bed.theirs();
}

#[test]
fn what_a_dead_process_left_behind_is_taken_at_once() {
    let bed = Bed::new();
    bed.claimed_by(&dead("t"), Duration::ZERO);
    let asked = Instant::now();
    drop(Claim::take(&bed.run(), PACE).map(|taken| assert!(matches!(taken, Taken::Ours(_)))));
    assert!(asked.elapsed() < PACE.heartbeat, "it waited");
    // The number is in use again, by another process.
    let reused = Holder { started_ticks: Some(1), token: "u".into(), ..Holder::this_process() };
    bed.claimed_by(&reused, Duration::ZERO);
    drop(bed.ours());
    assert_eq!(bed.files(), Vec::<String>::new());
}

#[test]
fn what_is_silent_for_a_lease_is_taken_and_what_cannot_be_read_too() {
    let bed = Bed::new();
    bed.claimed_by(&of_another_machine("t"), FAST.lease * 2);
    drop(bed.ours());
    fs::write(bed.run().path().join("CLAIM"), "{").expect("room");
    bed.theirs();
    aged(&bed.run().path().join("CLAIM"), FAST.lease * 2);
    drop(bed.ours());
    assert_eq!(bed.files(), Vec::<String>::new());
}

#[test]
fn a_clock_that_jumps_takes_nothing_from_the_living() {
    let bed = Bed::new();
    bed.claimed_by(&of_another_machine("t"), FAST.lease * 100);
    let path = bed.run().path().join("CLAIM");
    std::thread::scope(|scope| {
        let taken = scope.spawn(|| bed.theirs());
        for beat in 0..100 {
            aged(&path, FAST.lease * 100 - FAST.heartbeat * beat);
            std::thread::sleep(FAST.heartbeat / 8);
        }
        taken.join().expect("it was left alone");
    });
}

#[test]
fn an_owner_that_was_thought_dead_finds_out_and_leaves_the_new_one_alone() {
    let bed = Bed::new();
    let claim = bed.ours();
    assert!(!claim.has_lost());
    let next = bed.run().path().join("next");
    bed.write("next", &of_another_machine("t"), Duration::ZERO);
    fs::rename(&next, bed.run().path().join("CLAIM")).expect("the same folder");
    assert!(claim.has_lost_now());
    drop(claim);
    assert_eq!((bed.files(), bed.theirs().token), (vec!["CLAIM".into()], "t".into()));

    let bed = Bed::new();
    let claim = bed.ours();
    fs::remove_file(bed.run().path().join("CLAIM")).expect("it was there");
    let begun = Instant::now();
    while !claim.has_lost() {
        assert!(begun.elapsed() < Duration::from_secs(10), "no heartbeat has noticed");
        std::thread::sleep(FAST.heartbeat);
    }
}

#[test]
fn what_a_late_owner_still_writes_goes_nowhere() {
    let bed = Bed::new();
    bed.claimed_by(&of_another_machine("t"), FAST.lease * 2);
    let log = bed.run().metrics_file();
    let mut late = fs::File::create(&log).expect("room");
    writeln!(late, "1").expect("room");
    let _claim = bed.ours();
    writeln!(late, "2").expect("room");
    assert_eq!(fs::read_to_string(&log).expect("the log"), "1\n");
    assert!(!bed.files().iter().any(|name| name.starts_with("CLAIM.")), "{:?}", bed.files());
}

#[test]
fn one_that_died_while_it_took_over_blocks_nobody() {
    let bed = Bed::new();
    bed.claimed_by(&dead("t"), Duration::ZERO);
    bed.write("CLAIM.after-t", &dead("u"), Duration::ZERO);
    drop(bed.ours());
    assert_eq!(bed.files(), Vec::<String>::new());
}

/// Whatever they find: nothing, a dead process's claim, or one of a machine that has gone silent.
#[test]
fn of_many_that_ask_at_once_one_wins() {
    for round in 0..60 {
        let bed = Bed::new();
        match round % 3 {
            0 => create_folder(bed.run().path()).expect("room"),
            1 => bed.claimed_by(&dead("t"), Duration::ZERO),
            _ => bed.claimed_by(&of_another_machine("t"), FAST.lease * 2),
        }
        let (start, owners, wins) = (Barrier::new(4), AtomicUsize::new(0), AtomicUsize::new(0));
        let ask = || {
            start.wait();
            for _ in 0..3 {
                if let Taken::Ours(claim) = bed.take() {
                    assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0, "two owners in round {round}");
                    std::thread::sleep(Duration::from_millis(2));
                    assert!(!claim.has_lost_now(), "robbed in round {round}");
                    owners.fetch_sub(1, Ordering::SeqCst);
                    wins.fetch_add(1, Ordering::SeqCst);
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(ask))));
        assert!(wins.into_inner() > 0, "nobody won in round {round}");
        assert_eq!(bed.files(), Vec::<String>::new(), "round {round}");
    }
}
