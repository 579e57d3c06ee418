//! The learning rate: a pure function of progress through the budget's own unit, changed by a strategy's
//! requests alone.

use std::f64::consts::PI;

use engine::Step;
use plugin_host::api::{ScheduleChange, ScheduleShape};
use serde::{Deserialize, Serialize};

use crate::ConfigError;

/// The schedule as the study names it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its shape after the warm-up.
    pub kind: ScheduleKind,
    /// Highest learning rate.
    pub rate: f64,
    /// Steps of linear warm-up: step k of n has `rate (k + 1) / n`.
    pub warmup_steps: u64,
    /// For `linear`, `cosine` and `wsd`: the last rate as a share of the highest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub final_fraction: Option<f64>,
    /// For `wsd`: the share of the budget over which the rate falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay_fraction: Option<f64>,
}

/// The shape after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// The same rate throughout.
    Constant,
    /// Falls linearly to the end of the budget.
    Linear,
    /// Falls along half a cosine to the end of the budget.
    Cosine,
    /// Warm-up, stable, decay: constant, then a linear fall at the end.
    Wsd,
}

impl Schedule {
    /// Whether one run's prefix is the run of a smaller budget.
    pub fn is_constant(&self) -> bool {
        self.kind == ScheduleKind::Constant
    }

    /// As high as this one, in that shape and without a warm-up.
    fn shaped(&self, shape: ScheduleShape) -> Schedule {
        let (kind, final_fraction, decay_fraction) = match shape {
            ScheduleShape::Constant => (ScheduleKind::Constant, None, None),
            ScheduleShape::Linear { final_fraction } => (ScheduleKind::Linear, Some(final_fraction), None),
            ScheduleShape::Cosine { final_fraction } => (ScheduleKind::Cosine, Some(final_fraction), None),
            ScheduleShape::Wsd { final_fraction, decay_fraction } => {
                (ScheduleKind::Wsd, Some(final_fraction), Some(decay_fraction))
            }
        };
        Schedule { kind, rate: self.rate, warmup_steps: 0, final_fraction, decay_fraction }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let error = |key: &str, message: String, hint: &str| {
            Err(ConfigError::new(format!("schedule.{key}"), message, hint))
        };
        if !(self.rate > 0.0 && self.rate <= 10.0) {
            return error(
                "rate",
                format!("`schedule.rate` is {}", self.rate),
                "choose a positive rate, at most 10",
            );
        }
        let fractions = [
            ("final_fraction", self.final_fraction, self.kind != ScheduleKind::Constant),
            ("decay_fraction", self.decay_fraction, self.kind == ScheduleKind::Wsd),
        ];
        for (key, value, wanted) in fractions {
            match value {
                None if wanted => {
                    let message = format!("a {:?} schedule needs `{key}`", self.kind).to_lowercase();
                    return error(key, message, "add it, between 0 and 1");
                }
                Some(_) if !wanted => {
                    let message = format!("a {:?} schedule has no `{key}`", self.kind).to_lowercase();
                    return error(key, message, "remove it, or choose another `schedule.kind`");
                }
                Some(value) if !(0.0..=1.0).contains(&value) => {
                    return error(key, format!("`schedule.{key}` is {value}"), "choose 0 to 1");
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// What the study's rate may be multiplied by, all requests together.
const SCALES: std::ops::RangeInclusive<f64> = 1e-9..=1e6;

/// The schedule in a run: its configuration and what has been asked of it so far.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunningSchedule {
    config: Schedule,
    /// What is followed instead of the study's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    followed: Option<Schedule>,
    /// Multiplies every rate.
    scale: f64,
    /// Where the schedule began (again): step and progress.
    began: Point,
    /// Progress at which the warm-up was over, once it is.
    warm_since: Option<f64>,
    /// Progress at which it ends.
    horizon: f64,
    shift: f64,
    rewarm: Option<Rewarm>,
    decay: Option<Decay>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    step: u64,
    progress: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Rewarm {
    from_step: u64,
    steps: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Decay {
    from_progress: f64,
    share: f64,
    from_rate: f64,
}

impl RunningSchedule {
    /// The schedule at the start of a run.
    pub fn new(config: &Schedule) -> RunningSchedule {
        RunningSchedule {
            config: config.clone(),
            followed: None,
            scale: 1.0,
            began: Point { step: 0, progress: 0.0 },
            warm_since: None,
            horizon: 1.0,
            shift: 0.0,
            rewarm: None,
            decay: None,
        }
    }

    /// The rate of that step; `progress` is the share of the budget spent before it. To be asked for every
    /// step in turn, since it notes where the warm-up ends.
    pub fn rate(&mut self, step: Step, progress: f64) -> f64 {
        let Step(step) = step;
        let since = step - self.began.step;
        if since >= self.present().warmup_steps && self.warm_since.is_none() {
            self.warm_since = Some(progress);
        }
        self.scale * self.rate_after(since, progress) * self.rewarm_factor(step)
    }

    fn present(&self) -> &Schedule {
        self.followed.as_ref().unwrap_or(&self.config)
    }

    /// The schedule anew from there on, as high as it is now.
    fn anew(&self, step: u64, progress: f64) -> RunningSchedule {
        let began = Point { step, progress };
        RunningSchedule { began, scale: self.scale, ..RunningSchedule::new(&self.config) }
    }

    /// Whether such a factor leaves rates that mean anything.
    pub fn can_be_scaled(&self, factor: f64) -> bool {
        SCALES.contains(&(self.scale * factor))
    }

    /// Changes the schedule from that step on.
    pub fn change(&mut self, change: &ScheduleChange, step: Step, progress: f64) {
        let Step(step) = step;
        match *change {
            ScheduleChange::Shift(share) => self.shift += share,
            ScheduleChange::Rewarm(steps) => self.rewarm = Some(Rewarm { from_step: step, steps }),
            ScheduleChange::Restart => *self = self.anew(step, progress),
            ScheduleChange::Scale(factor) => self.scale *= factor,
            ScheduleChange::Follow(shape) => {
                let (followed, rewarm) = (Some(self.config.shaped(shape)), self.rewarm);
                *self = RunningSchedule { followed, rewarm, ..self.anew(step, progress) };
            }
            ScheduleChange::Extend(factor) => self.horizon *= factor,
            ScheduleChange::DecayNow(share) => {
                let from_rate = self.rate_after(step - self.began.step, progress);
                self.decay = Some(Decay { from_progress: progress, share, from_rate });
            }
        }
    }

    fn rate_after(&self, since: u64, progress: f64) -> f64 {
        let present = self.present();
        let Schedule { rate, warmup_steps, .. } = *present;
        let last = rate * present.final_fraction.unwrap_or(0.0);
        if let Some(decay) = self.decay {
            let gone = share(progress, decay.from_progress, decay.from_progress + decay.share);
            return decay.from_rate + gone * (last - decay.from_rate);
        }
        if since < warmup_steps {
            return rate * (since + 1) as f64 / warmup_steps as f64;
        }
        let warm_since = self.warm_since.unwrap_or(self.began.progress);
        let progress = progress + self.shift;
        match present.kind {
            ScheduleKind::Constant => rate,
            ScheduleKind::Linear => rate + share(progress, warm_since, self.horizon) * (last - rate),
            ScheduleKind::Cosine => {
                let gone = share(progress, warm_since, self.horizon);
                last + 0.5 * (1.0 + (PI * gone).cos()) * (rate - last)
            }
            ScheduleKind::Wsd => {
                let decays_since = self.horizon - present.decay_fraction.unwrap_or(0.0);
                rate + share(progress, decays_since, self.horizon) * (last - rate)
            }
        }
    }

    fn rewarm_factor(&self, step: u64) -> f64 {
        match self.rewarm {
            Some(Rewarm { from_step, steps }) if step.saturating_sub(from_step) < steps => {
                (step - from_step + 1) as f64 / steps as f64
            }
            _ => 1.0,
        }
    }
}

/// How far `at` has come from `from` to `to`, 0 to 1.
fn share(at: f64, from: f64, to: f64) -> f64 {
    if to > from { ((at - from) / (to - from)).clamp(0.0, 1.0) } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(kind: ScheduleKind) -> Schedule {
        let falls = kind != ScheduleKind::Constant;
        Schedule {
            kind,
            rate: 6e-4,
            warmup_steps: 5,
            final_fraction: falls.then_some(0.1),
            decay_fraction: (kind == ScheduleKind::Wsd).then_some(0.25),
        }
    }

    fn rates(kind: ScheduleKind, changes: &[(u64, ScheduleChange)]) -> Vec<f64> {
        let mut running = RunningSchedule::new(&schedule(kind));
        (0..40)
            .map(|step| {
                let progress = step as f64 / 40.0;
                for (_, change) in changes.iter().filter(|(at, _)| *at == step) {
                    running.change(change, Step(step), progress);
                }
                running.rate(Step(step), progress)
            })
            .collect()
    }

    /// The formula of run c of the golden runs.
    #[test]
    fn cosine_is_that_of_the_golden_runs() {
        for (k, rate) in rates(ScheduleKind::Cosine, &[]).into_iter().enumerate() {
            let k = k as f64;
            let wanted = if k < 5.0 {
                6e-4 * (k + 1.0) / 5.0
            } else {
                6e-5 + 0.5 * (1.0 + (PI * (k - 5.0) / 35.0).cos()) * 5.4e-4
            };
            assert!((rate / wanted - 1.0).abs() < 1e-12, "step {k}: {rate} against {wanted}");
        }
    }

    #[test]
    fn each_kind_warms_up_and_ends_where_it_should() {
        for kind in [ScheduleKind::Constant, ScheduleKind::Linear, ScheduleKind::Wsd] {
            let rates = rates(kind, &[]);
            assert!((rates[0] - 1.2e-4).abs() < 1e-18 && (rates[4] - 6e-4).abs() < 1e-18, "{kind:?}");
            let last = if kind == ScheduleKind::Constant { 6e-4 } else { 6e-5 };
            assert!(rates[39] >= last && rates[39] < last + 6e-5, "{kind:?} ends at {}", rates[39]);
        }
        assert_eq!(rates(ScheduleKind::Wsd, &[])[29], 6e-4);
    }

    #[test]
    fn changes_take_hold_from_their_step_on() {
        let plain = rates(ScheduleKind::Constant, &[]);
        let rewarmed = rates(ScheduleKind::Constant, &[(20, ScheduleChange::Rewarm(4))]);
        assert_eq!(plain[..20], rewarmed[..20]);
        assert_eq!(rewarmed[20..25], [1.5e-4, 3e-4, 4.5e-4, 6e-4, 6e-4]);
        let restarted = rates(ScheduleKind::Cosine, &[(20, ScheduleChange::Restart)]);
        assert!((restarted[20] - 1.2e-4).abs() < 1e-18 && (restarted[25] - 6e-4).abs() < 1e-18);
        let decayed = rates(ScheduleKind::Constant, &[(20, ScheduleChange::DecayNow(0.25))]);
        assert!(decayed[20] == 6e-4 && decayed[30] == 0.0);
        let shifted = rates(ScheduleKind::Linear, &[(10, ScheduleChange::Shift(-0.1))]);
        assert!((shifted[14] - rates(ScheduleKind::Linear, &[])[10]).abs() < 1e-18);
        let extended = rates(ScheduleKind::Linear, &[(10, ScheduleChange::Extend(2.0))]);
        assert!(extended[39] > rates(ScheduleKind::Linear, &[])[39]);
    }
}
