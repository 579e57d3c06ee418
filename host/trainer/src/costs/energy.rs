//! What the device has used that a run computes on: a GPU by its own counter, the processor by its packages' (RAPL, as Linux shows
//! them below `/sys/class/powercap`). They count all of the device, so what they say is a run's alone only where nothing runs
//! beside it.

use std::fs;
use std::path::{Path, PathBuf};

use engine::{Energy, Engine};

const POWERCAP: &str = "/sys/class/powercap";

/// A counter, and where it stood when it was last asked.
pub(crate) enum EnergyCounter {
    /// Of the engine's device, in millijoules.
    OfDevice { last: u64 },
    /// Of the processor's packages.
    OfHost(Vec<Package>),
}

/// A package of the processor.
pub(crate) struct Package {
    energy: PathBuf,
    /// Where the counter begins anew, in microjoules.
    range: u64,
    last: u64,
}

impl EnergyCounter {
    /// Of what that engine computes on; `None` where there is none that may be read.
    pub(crate) fn of(engine: &dyn Engine) -> Option<EnergyCounter> {
        match engine.energy() {
            Energy::OfHost => EnergyCounter::below(Path::new(POWERCAP)),
            Energy::Millijoules(last) => Some(EnergyCounter::OfDevice { last }),
            Energy::Untold => None,
        }
    }

    fn below(powercap: &Path) -> Option<EnergyCounter> {
        let zones = fs::read_dir(powercap).ok()?.flatten().map(|zone| zone.path());
        let packages: Vec<Option<Package>> = zones.filter(|zone| is_package(zone)).map(Package::at).collect();
        // A sum over some of them would be no sum.
        let packages: Vec<Package> = packages.into_iter().collect::<Option<_>>()?;
        (!packages.is_empty()).then_some(EnergyCounter::OfHost(packages))
    }

    /// Joules since it was asked last; `None` where a counter can be read no more.
    pub(crate) fn joules_since(&mut self, engine: &dyn Engine) -> Option<f64> {
        match self {
            EnergyCounter::OfDevice { last } => {
                let Energy::Millijoules(now) = engine.energy() else { return None };
                // A counter that has begun anew, as with a driver that was loaded anew, tells nothing.
                let used = now.checked_sub(std::mem::replace(last, now))?;
                Some(used as f64 / 1e3)
            }
            EnergyCounter::OfHost(packages) => {
                let mut sum = 0;
                for package in packages {
                    sum += package.microjoules_since()?;
                }
                Some(sum as f64 / 1e6)
            }
        }
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

    fn microjoules_since(&mut self) -> Option<u64> {
        let now = number(&self.energy)?;
        let used = if now >= self.last { now - self.last } else { self.range - self.last + now };
        self.last = now;
        Some(used)
    }
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use engine::{ScriptedEngine, Weights, contract};

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
        let engine = ScriptedEngine::new(&contract::tiny_shape(), Weights::Forgotten);
        let at = |first, second| {
            zone(folder.path(), "intel-rapl:0", first);
            zone(folder.path(), "intel-rapl:1", second);
            // The cores are in the package already, and the other interface shows the same once more.
            zone(folder.path(), "intel-rapl:0:0", 5 * first);
            zone(folder.path(), "intel-rapl-mmio:0", 5 * first);
        };
        at(1_000_000, 9_000_000);
        let mut counter = EnergyCounter::below(folder.path()).expect("two packages");
        assert_eq!(counter.joules_since(&engine), Some(0.0));
        at(1_500_000, 9_250_000);
        assert_eq!(counter.joules_since(&engine), Some(0.75));
        at(1_500_000, 250_000);
        assert_eq!(counter.joules_since(&engine), Some(1.0), "10 - 9.25 + 0.25");
        fs::remove_dir_all(folder.path().join("intel-rapl:1")).expect("it was made");
        assert_eq!(counter.joules_since(&engine), None);
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
