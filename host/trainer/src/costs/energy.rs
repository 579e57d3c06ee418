//! What the processor has used, by its own counters (RAPL, as Linux shows them below `/sys/class/powercap`). They count the
//! whole package, so what they say is a run's alone only where nothing runs beside it.

use std::fs;
use std::path::{Path, PathBuf};

const POWERCAP: &str = "/sys/class/powercap";

/// The counters of all packages.
pub(crate) struct EnergyCounter {
    packages: Vec<Package>,
}

struct Package {
    energy: PathBuf,
    /// Where the counter begins anew, in microjoules.
    range: u64,
    last: u64,
}

impl EnergyCounter {
    /// This machine's; `None` where it has none that may be read.
    pub(crate) fn of_machine() -> Option<EnergyCounter> {
        EnergyCounter::below(Path::new(POWERCAP))
    }

    fn below(powercap: &Path) -> Option<EnergyCounter> {
        let zones = fs::read_dir(powercap).ok()?.flatten().map(|zone| zone.path());
        let packages: Vec<Option<Package>> = zones.filter(|zone| is_package(zone)).map(Package::at).collect();
        // A sum over some of them would be no sum.
        let packages: Vec<Package> = packages.into_iter().collect::<Option<_>>()?;
        (!packages.is_empty()).then_some(EnergyCounter { packages })
    }

    /// Joules since it was asked last; `None` where a counter can be read no more.
    pub(crate) fn joules_since(&mut self) -> Option<f64> {
        let mut sum = 0;
        for package in &mut self.packages {
            let now = number(&package.energy)?;
            let used =
                if now >= package.last { now - package.last } else { package.range - package.last + now };
            package.last = now;
            sum += used;
        }
        Some(sum as f64 / 1e6)
    }
}

/// `intel-rapl:0`, on AMD's processors too; what has a second colon is a part of one.
fn is_package(zone: &Path) -> bool {
    let name = zone.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.strip_prefix("intel-rapl:").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Package {
    fn at(zone: PathBuf) -> Option<Package> {
        let energy = zone.join("energy_uj");
        let (range, last) = (number(&zone.join("max_energy_range_uj"))?, number(&energy)?);
        Some(Package { energy, range, last })
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(powercap: &Path, name: &str, microjoules: u64) {
        let zone = powercap.join(name);
        fs::create_dir_all(&zone).expect("room");
        fs::write(zone.join("max_energy_range_uj"), "10000000\n").expect("room");
        fs::write(zone.join("energy_uj"), format!("{microjoules}\n")).expect("room");
    }

    #[test]
    fn packages_are_added_up_and_a_counter_may_begin_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |first, second| {
            zone(folder.path(), "intel-rapl:0", first);
            zone(folder.path(), "intel-rapl:1", second);
            // The cores are in the package already, and the other interface shows the same once more.
            zone(folder.path(), "intel-rapl:0:0", 5 * first);
            zone(folder.path(), "intel-rapl-mmio:0", 5 * first);
        };
        at(1_000_000, 9_000_000);
        let mut counter = EnergyCounter::below(folder.path()).expect("two packages");
        assert_eq!(counter.joules_since(), Some(0.0));
        at(1_500_000, 9_250_000);
        assert_eq!(counter.joules_since(), Some(0.75));
        at(1_500_000, 250_000);
        assert_eq!(counter.joules_since(), Some(1.0), "10 - 9.25 + 0.25");
        fs::remove_dir_all(folder.path().join("intel-rapl:1")).expect("it was made");
        assert_eq!(counter.joules_since(), None);
    }

    #[test]
    fn without_a_counter_that_may_be_read_nothing_is_measured() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        assert!(EnergyCounter::below(folder.path()).is_none());
        assert!(EnergyCounter::below(&folder.path().join("nothing")).is_none());
        fs::create_dir(folder.path().join("intel-rapl:0")).expect("room");
        assert!(EnergyCounter::below(folder.path()).is_none());
    }
}
