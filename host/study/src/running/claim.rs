//! One owner a run: the file `CLAIM` in a run's folder says who works on it, so that processes on any number of
//! machines share a study's folder and nothing else.
//!
//! ```text
//! CLAIM               whose the run is; its time of change is the owner's last sign of life
//! CLAIM.TOKEN         a claim that is being made, linked to CLAIM if nobody else has one
//! CLAIM.after-TOKEN   who may put another claim in the place of the one with that token, or remove it
//! ```
//!
//! Links and renames alone decide, which are atomic on file systems that machines share, and each claim has one
//! successor: of two that take over, one wins. Should all else fail (a machine that was suspended between two system
//! calls), whoever does not find its own token in `CLAIM` stops. Not here: signs of life (`heartbeat`), and who a
//! process is (`holder`).

mod fence;
mod heartbeat;
mod holder;

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use trainer::folder::RunFolder;
use trainer::storage::create_folder;
use trainer::{Owner, TrainError};

use heartbeat::Heartbeat;
pub use holder::Holder;
use holder::Signs;

/// How often an owner gives a sign of life, and how long it may give none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// From one sign of life to the next.
    pub heartbeat: Duration,
    /// A claim that is older is left behind.
    pub lease: Duration,
}

/// Twelve signs of life may get lost before a claim does: a file server that is restarted is no death.
pub(crate) const PACE: Pace = Pace { heartbeat: Duration::from_secs(5), lease: Duration::from_secs(60) };
/// Heartbeats for which a claim that looks too old has to stay as it is. Where only a clock was set, it does not.
const WATCHED_HEARTBEATS: u32 = 3;
/// A claim is a line; of a file that is more, the rest says nothing.
const LARGEST_CLAIM_BYTES: u64 = 64 << 10;
/// Looks in that time.
const LOOKS: u32 = 12;

/// A run that is ours until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    folder: PathBuf,
    heartbeat: Heartbeat,
}

/// Whose a run is, after it was asked for.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Ours.
    Ours(Claim),
    /// Somebody else's, who is alive.
    Theirs(Holder),
}

/// A claim as it was found.
struct Found {
    /// `None` where the file cannot be read as one.
    holder: Option<Holder>,
    /// Of its last sign of life, by the clock of the file system.
    at: SystemTime,
}

impl Claim {
    /// Takes a run, if nobody has it or who had it is gone. Where that cannot be told at once it is watched for some
    /// heartbeats.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn take(run: &RunFolder, pace: Pace) -> Result<Taken, TrainError> {
        let folder = run.path();
        create_folder(folder)?;
        let mine = Holder::this_process();
        let draft = folder.join(format!("CLAIM.{}", mine.token));
        let taken = write_draft(&draft, &mine).and_then(|()| settle(folder, &draft, &mine, pace));
        // Linked or not, it has served.
        let _ = fs::remove_file(&draft);
        let path = claim_file(folder);
        match taken.map_err(storage("claim", &path))? {
            Some(theirs) => Ok(Taken::Theirs(theirs)),
            None => {
                let heartbeat = Heartbeat::start(path.clone(), mine.token, pace.heartbeat);
                let heartbeat = heartbeat.map_err(storage("claim", &path))?;
                Ok(Taken::Ours(Claim { folder: folder.to_path_buf(), heartbeat }))
            }
        }
    }
}

impl Owner for Claim {
    fn has_lost(&self) -> bool {
        self.heartbeat.has_lost()
    }

    fn has_lost_now(&self) -> bool {
        self.heartbeat.has_lost_now()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let token = self.heartbeat.stop();
        if let Err(error) = release(&self.folder, &token) {
            // It is found out by its age, or by this process being gone.
            tracing::warn!("the claim in {} cannot be removed: {error}", self.folder.display());
        }
    }
}

/// Who works on a run, if somebody does: a look that touches nothing and may be wrong for a lease.
pub(crate) fn holder(run: &RunFolder) -> Option<Holder> {
    let found = look(run.path()).ok()??;
    let silent = SystemTime::now().duration_since(found.at).unwrap_or_default();
    found.holder.filter(|holder| holder.signs() != Signs::Dead && silent < PACE.lease)
}

fn claim_file(folder: &Path) -> PathBuf {
    folder.join("CLAIM")
}

/// What gives the right to replace or remove the claim of that token.
fn successor_file(folder: &Path, token: &str) -> PathBuf {
    folder.join(format!("CLAIM.after-{token}"))
}

fn write_draft(draft: &Path, holder: &Holder) -> io::Result<()> {
    let mut file = fs::File::create_new(draft)?;
    file.write_all(&serde_json::to_vec_pretty(holder)?)?;
    file.sync_all()
}

/// Links the draft as the run's claim; answers who else has it.
fn settle(folder: &Path, draft: &Path, mine: &Holder, pace: Pace) -> io::Result<Option<Holder>> {
    let path = claim_file(folder);
    loop {
        match fs::hard_link(draft, &path) {
            Ok(()) => return Ok(None),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let Some(found) = look(folder)? else { continue };
        // A file server that answers a repeated request says that the link is there: it is this one.
        if found.token() == mine.token {
            return Ok(None);
        }
        if !left_behind(&path, &found, draft, pace)? {
            return Ok(Some(found.holder.unwrap_or_else(Holder::unknown)));
        }
        if take_over(folder, found.token(), draft, mine, pace)? {
            tracing::info!("{} was left behind by {}", folder.display(), found.name());
            return fence_off(folder, &found, mine).map(|()| None);
        }
    }
}

/// Keeps what the former owner may still write out of the run's files; the dead write nothing.
fn fence_off(folder: &Path, former: &Found, mine: &Holder) -> io::Result<()> {
    if former.holder.as_ref().is_some_and(|holder| holder.signs() == Signs::Dead) {
        return Ok(());
    }
    fence::off(folder).inspect_err(|_| {
        // What went wrong goes up; the claim would only keep others off.
        let _ = release(folder, &mine.token);
    })
}

/// Puts the draft in the place of the claim with that token; `false` where somebody else was faster.
fn take_over(folder: &Path, token: &str, draft: &Path, mine: &Holder, pace: Pace) -> io::Result<bool> {
    let (path, successor) = (claim_file(folder), successor_file(folder, token));
    match fs::hard_link(draft, &successor) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // Whoever has the right holds it for a moment, unless it died in that moment.
            let dead = match found_in(&successor)? {
                Some(found) => left_behind(&successor, &found, draft, pace)?,
                None => false,
            };
            if dead {
                remove(&successor)?;
            }
            std::thread::sleep(pace.heartbeat / LOOKS);
            return Ok(false);
        }
        Err(error) => return Err(error),
    }
    if look(folder)?.is_none_or(|found| found.token() != token) {
        // Another successor came and went meanwhile.
        remove(&successor)?;
        return Ok(false);
    }
    match fs::rename(&successor, &path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(look(folder)?.is_some_and(|found| found.token() == mine.token)),
    }
}

/// Removes our claim, unless it has a successor.
fn release(folder: &Path, token: &str) -> io::Result<()> {
    let successor = successor_file(folder, token);
    match fs::File::create_new(&successor) {
        Ok(_) => {}
        Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) => return Ok(()),
        Err(error) => return Err(error),
    }
    if look(folder)?.is_some_and(|found| found.token() == token) {
        remove(&claim_file(folder))?;
    }
    remove(&successor)
}

/// Whether who made the claim in that file is gone: a process of this machine that has ended, or one that has given no
/// sign of life for a lease. The draft lies beside it and tells what time it is there.
fn left_behind(path: &Path, found: &Found, draft: &Path, pace: Pace) -> io::Result<bool> {
    if found.holder.as_ref().is_some_and(|holder| holder.signs() == Signs::Dead) {
        return Ok(true);
    }
    let now = heartbeat::touch(&fs::File::options().write(true).open(draft)?)?;
    if now.duration_since(found.at).unwrap_or_default() <= pace.lease {
        return Ok(false);
    }
    for _ in 0..LOOKS {
        std::thread::sleep(pace.heartbeat * WATCHED_HEARTBEATS / LOOKS);
        let same = |again: Found| again.at == found.at && again.token() == found.token();
        if !found_in(path)?.is_some_and(same) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn look(folder: &Path) -> io::Result<Option<Found>> {
    found_in(&claim_file(folder))
}

fn found_in(path: &Path) -> io::Result<Option<Found>> {
    // Opened anew each time: that is when a network file system asks its server.
    let opened = fs::File::open(path);
    let read = |file: fs::File| {
        let at = file.metadata()?.modified()?;
        Ok((at, io::read_to_string(file.take(LARGEST_CLAIM_BYTES))?))
    };
    match opened.and_then(read) {
        Ok((at, text)) => Ok(Some(Found { holder: serde_json::from_str(&text).ok(), at })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            Ok(Some(Found { holder: None, at: fs::metadata(path)?.modified()? }))
        }
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
        .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn storage(action: &'static str, path: &Path) -> impl Fn(io::Error) -> TrainError {
    move |source| TrainError::Storage { action, path: path.to_path_buf(), source }
}

impl Found {
    /// Of a file that says nothing there is one token, too.
    fn token(&self) -> &str {
        self.holder.as_ref().map_or("unreadable", |holder| &holder.token)
    }

    fn name(&self) -> String {
        self.holder.as_ref().map_or_else(|| "somebody unknown".into(), ToString::to_string)
    }
}

#[cfg(test)]
mod tests;
