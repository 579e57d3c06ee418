//! Who may write into a run's folder, where processes on several machines could. Not here: how they settle it.

/// Whether a run's folder still belongs to who trains it.
pub trait Owner: Sync {
    /// [before every step] Whether somebody else has the folder by now, as far as is known: it takes no time.
    fn has_lost(&self) -> bool;

    /// [before every checkpoint, and before `DONE`] The same, looked up now.
    fn has_lost_now(&self) -> bool;
}

/// Owns a folder that nobody else knows of.
pub struct Alone;

impl Owner for Alone {
    fn has_lost(&self) -> bool {
        false
    }

    fn has_lost_now(&self) -> bool {
        false
    }
}
