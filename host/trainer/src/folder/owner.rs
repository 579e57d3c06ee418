//! Who may write into a run's folder, where processes on several machines could. Not here: how they settle it.

/// Whether a run's folder still belongs to who trains it.
pub trait Owner: Send + Sync {
    /// [before every step] Whether somebody else has the folder by now, as far as is known: it takes no time.
    fn has_lost(&self) -> bool;

    /// [before every checkpoint is written and before it counts, there by the thread that writes it; and before `DONE`] The
    /// same, looked up now.
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
