//! Looks now and then whether a call into a plugin takes too long.

use std::io;
use std::time::Duration;

use sapwood_plugin::Kind;

use super::{Blame, TRAIL, crumbs, guard};
use crate::isolation::call_limit;

const LOOK_EVERY: Duration = Duration::from_millis(100);
const SLOW_AFTER: Duration = Duration::from_secs(1);

pub(super) fn start(blame: Blame) -> io::Result<()> {
    let limit = call_limit();
    let watchdog = std::thread::Builder::new().name("plugin watchdog".into());
    watchdog.spawn(move || watch(blame, limit)).map(|_| ())
}

fn watch(blame: Blame, limit: Duration) {
    let Some(trail) = TRAIL.get() else { return };
    // For each crumb the call that was told of already, by its beginning.
    let mut told = vec![0; trail.crumbs.len()];
    loop {
        std::thread::sleep(LOOK_EVERY);
        for (crumb, told) in trail.crumbs.iter().zip(&mut told) {
            let began = crumb.began_ns();
            let Some(culprit) = crumb.culprit() else { continue };
            let took = Duration::from_nanos(crumbs::now_ns().saturating_sub(began));
            // A reporter has a thread of its own and holds up nobody.
            if took > limit && culprit.kind != Kind::Reporter && crumb.began_ns() == began {
                let code = (blame.on_hang)(&culprit);
                guard::disarm();
                trail.remove();
                guard::end_process(code);
            }
            if took > SLOW_AFTER && *told != began {
                *told = began;
                (blame.on_slow)(&culprit);
            }
        }
    }
}
