//! A metric reporter that keeps the best validation loss of each run in `best-loss.txt` in the run's folder.

use std::collections::HashMap;
use std::path::PathBuf;

use sapwood_plugin::{MetricReporter, Plugin, Result, RunEvent, SessionFacts};
use serde::Deserialize;

/// Takes no option. What stands here is what `sapwood plugin inspect` prints.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {}

struct BestLoss {
    /// By the run's name, since one instance sees all runs of a study.
    runs: HashMap<String, Best>,
}

struct Best {
    folder: PathBuf,
    loss_nats_per_token: f64,
}

impl Plugin for BestLoss {
    type Config = Config;

    fn new(_: Config) -> Result<BestLoss> {
        Ok(BestLoss { runs: HashMap::new() })
    }
}

impl MetricReporter for BestLoss {
    fn start(&mut self, _: &SessionFacts) -> Result<()> {
        Ok(())
    }

    fn event(&mut self, event: &RunEvent) -> Result<()> {
        match event {
            RunEvent::RunStarted { run, folder, .. } => {
                let best = Best { folder: folder.clone(), loss_nats_per_token: f64::INFINITY };
                self.runs.insert(run.clone(), best);
            }
            RunEvent::Evaluated { run, step, loss_nats_per_token, .. } => {
                if let Some(best) = self.runs.get_mut(run) {
                    best.see(*step, *loss_nats_per_token)?;
                }
            }
            RunEvent::RunFinished { run, .. } | RunEvent::RunStopped { run, .. } => {
                self.runs.remove(run);
            }
            _ => {}
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Best {
    /// Under a temporary name first, so that whoever reads the file never meets half of it.
    fn see(&mut self, step: u64, loss_nats_per_token: f64) -> Result<()> {
        if loss_nats_per_token < self.loss_nats_per_token {
            self.loss_nats_per_token = loss_nats_per_token;
            let (file, temporary) = (self.folder.join("best-loss.txt"), self.folder.join("best-loss.tmp"));
            std::fs::write(&temporary, format!("{loss_nats_per_token} nats per token at step {step}\n"))?;
            std::fs::rename(temporary, file)?;
        }
        Ok(())
    }
}

sapwood_plugin::export! {
    reporter BestLoss { id: "example/best-loss", summary: "each run's best validation loss in a small file" }
}

#[cfg(test)]
mod tests {
    use sapwood_plugin::testing::{MadeUpRun, plugin};

    use super::BestLoss;

    #[test]
    fn the_best_of_all_evaluations_is_kept() {
        let folder = std::env::temp_dir().join(format!("best-loss-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("room for a temporary folder");
        let mut reporter = plugin::<BestLoss>("{}").expect("it takes no option");
        MadeUpRun::new(&folder, 20).tell(&mut reporter).expect("room for a small file");
        let said = std::fs::read_to_string(folder.join("best-loss.txt")).expect("it was written");
        std::fs::remove_dir_all(&folder).expect("it is ours");
        assert!(said.ends_with(" nats per token at step 20\n"), "{said}");
    }
}
