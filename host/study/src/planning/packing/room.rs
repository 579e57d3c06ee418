//! What a machine has for runs: cores that this process may use, and memory that is free, the limits of its control
//! group included. Linux tells both in files.

use std::fs;
use std::path::{Path, PathBuf};

/// What a machine has for runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Cores.
    pub cores: usize,
    /// Free memory; `None` where the system does not tell.
    pub memory_bytes: Option<u64>,
}

/// Where a version of control groups says what it allows and what is taken.
struct Groups {
    root: &'static str,
    limit: &'static str,
    taken: &'static str,
    /// The key of what of that would be given back at once: files that were read.
    cached: &'static str,
}

const VERSION_2: Groups =
    Groups { root: "sys/fs/cgroup", limit: "memory.max", taken: "memory.current", cached: "inactive_file" };
const VERSION_1: Groups = Groups {
    root: "sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    taken: "memory.usage_in_bytes",
    cached: "total_inactive_file",
};

impl Room {
    /// What this process has here and now.
    pub fn here() -> Room {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Room { cores, memory_bytes: free_bytes(Path::new("/")) }
    }
}

/// The least that the machine and any control group around this process leave.
fn free_bytes(root: &Path) -> Option<u64> {
    let of_machine = key(&root.join("proc/meminfo"), "MemAvailable:").map(|kib| kib * 1024);
    of_machine.into_iter().chain(free_in_groups(root)).min()
}

fn free_in_groups(root: &Path) -> Vec<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut free = Vec::new();
    // A line is `number:controllers:path`; version 2 names no controllers.
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let groups = match controllers {
            "" => VERSION_2,
            _ if controllers.split(',').any(|controller| controller == "memory") => VERSION_1,
            _ => continue,
        };
        let top = root.join(groups.root);
        let own: PathBuf = top.join(path.trim_start_matches('/'));
        let up = own.ancestors().take_while(|folder| folder.starts_with(&top));
        free.extend(up.filter_map(|folder| groups.free(folder)));
    }
    free
}

impl Groups {
    /// What a group leaves; `None` where it has no limit, or none that is here to see.
    fn free(&self, folder: &Path) -> Option<u64> {
        let number = |name| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
        let (limit, taken) = (number(self.limit)?, number(self.taken)?);
        let cached = key(&folder.join("memory.stat"), self.cached).unwrap_or(0);
        Some(limit.saturating_sub(taken.saturating_sub(cached)))
    }
}

/// The number behind a word at the beginning of a line.
fn key(path: &Path, word: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some(word)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("it is below the root")).expect("room");
            fs::write(path, text).expect("room");
        }
        free_bytes(root.path())
    }

    const MEMORY: (&str, &str) = ("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:   4000 kB\n");

    #[test]
    fn the_lowest_limit_around_the_process_counts() {
        assert_eq!(free(&[]), None);
        assert_eq!(free(&[MEMORY]), Some(4_096_000));
        let group = ("proc/self/cgroup", "0::/job/task\n");
        let unlimited = ("sys/fs/cgroup/job/task/memory.max", "max\n");
        let (limit, taken) =
            (("sys/fs/cgroup/job/memory.max", "3000000"), ("sys/fs/cgroup/job/memory.current", "1000000"));
        let cached = ("sys/fs/cgroup/job/memory.stat", "anon 1\ninactive_file 250000\n");
        assert_eq!(free(&[MEMORY, group, unlimited]), Some(4_096_000));
        assert_eq!(free(&[MEMORY, group, unlimited, limit, taken]), Some(2_000_000));
        assert_eq!(free(&[MEMORY, group, limit, taken, cached]), Some(2_250_000));
        let above_all = ("sys/fs/cgroup/job/memory.max", "9000000");
        assert_eq!(free(&[MEMORY, group, above_all, taken]), Some(4_096_000));
    }

    #[test]
    fn the_first_version_of_control_groups_counts_too() {
        let files = [
            MEMORY,
            ("proc/self/cgroup", "3:cpu:/other\n4:memory:/job\n"),
            ("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "2000000\n"),
            ("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "500000\n"),
        ];
        assert_eq!(free(&files), Some(1_500_000));
    }
}
