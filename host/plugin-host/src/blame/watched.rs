//! A plugin of this process whose calls leave crumbs.

use sapwood_plugin::{
    Actions, Claim, Event, GrowthStrategy, InitContext, Kind, LayerInitializer, MetricReporter, MomentsRule,
    Plan, Result, RunEvent, RunFacts, Saved, SessionFacts, StepContext, TensorMut,
};

use super::crumbs::Crumb;
use super::{Call, TRAIL};

/// Does the work of making a plugin, watched.
pub(crate) fn making<T>(kind: Kind, id: &str, call: Call, work: impl FnOnce() -> T) -> T {
    let Some(crumb) = TRAIL.get().and_then(|trail| trail.take(kind, id)) else { return work() };
    let made = crumb.during(call, 0, work);
    crumb.free();
    made
}

/// A plugin with its crumb; `None` where nobody watches.
pub(crate) struct Watched<P: ?Sized> {
    crumb: Option<&'static Crumb>,
    /// The step that a strategy was last asked about; what a reporter has been told.
    at: u64,
    _leaving: Leaving,
    plugin: Box<P>,
    _left: Left,
}

impl<P: ?Sized> Watched<P> {
    pub(crate) fn new(kind: Kind, id: &str, plugin: Box<P>) -> Watched<P> {
        let crumb = TRAIL.get().and_then(|trail| trail.take(kind, id));
        Watched { crumb, at: 0, _leaving: Leaving(crumb), plugin, _left: Left(crumb) }
    }

    fn call<T>(&mut self, call: Call, work: impl FnOnce(&mut P) -> T) -> T {
        let plugin = &mut *self.plugin;
        match self.crumb {
            Some(crumb) => crumb.during(call, self.at, || work(plugin)),
            None => work(plugin),
        }
    }

    fn look<T>(&self, call: Call, work: impl FnOnce(&P) -> T) -> T {
        match self.crumb {
            Some(crumb) => crumb.during(call, self.at, || work(&self.plugin)),
            None => work(&self.plugin),
        }
    }
}

/// Fields are dropped in order: the first marks the call, the plugin goes, the last frees the crumb.
struct Leaving(Option<&'static Crumb>);

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some(crumb) = self.0 {
            crumb.begin(Call::Drop, 0);
        }
    }
}

struct Left(Option<&'static Crumb>);

impl Drop for Left {
    fn drop(&mut self) {
        if let Some(crumb) = self.0 {
            crumb.end();
            crumb.free();
        }
    }
}

impl GrowthStrategy for Watched<dyn GrowthStrategy> {
    fn plan(&mut self, run: &RunFacts) -> Result<Plan> {
        self.call(Call::Plan, |strategy| strategy.plan(run))
    }

    fn before_step(&mut self, context: &StepContext<'_>, actions: &mut Actions<'_>) -> Result<()> {
        self.at = context.step;
        self.call(Call::BeforeStep, |strategy| strategy.before_step(context, actions))
    }

    fn on_event(&mut self, event: &Event, actions: &mut Actions<'_>) -> Result<()> {
        self.call(Call::OnEvent, |strategy| strategy.on_event(event, actions))
    }

    fn save(&self) -> Result<Saved> {
        self.look(Call::Save, GrowthStrategy::save)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.call(Call::Restore, |strategy| strategy.restore(saved))
    }
}

impl LayerInitializer for Watched<dyn LayerInitializer> {
    fn init(&mut self, context: &InitContext<'_>, target: &mut [TensorMut<'_>]) -> Result<Claim> {
        self.at = context.layer.0;
        self.call(Call::Init, |initializer| initializer.init(context, target))
    }

    fn moments(&self) -> MomentsRule {
        self.look(Call::Moments, LayerInitializer::moments)
    }

    fn save(&self) -> Result<Saved> {
        self.look(Call::Save, LayerInitializer::save)
    }

    fn restore(&mut self, saved: &Saved) -> Result<()> {
        self.call(Call::Restore, |initializer| initializer.restore(saved))
    }
}

impl MetricReporter for Watched<dyn MetricReporter> {
    fn start(&mut self, session: &SessionFacts) -> Result<()> {
        self.call(Call::Start, |reporter| reporter.start(session))
    }

    fn event(&mut self, event: &RunEvent) -> Result<()> {
        self.at += 1;
        self.call(Call::Event, |reporter| reporter.event(event))
    }

    fn flush(&mut self) -> Result<()> {
        self.call(Call::Flush, MetricReporter::flush)
    }

    fn finish(&mut self) -> Result<()> {
        self.call(Call::Finish, MetricReporter::finish)
    }
}
