//! `report.json`: its keys, and all of one arm.

use expect_test::expect;

use crate::report::to_json;
use crate::verdict::made_up::{Study, of_all_kinds};

#[test]
fn json_keeps_its_keys() {
    let text = to_json(&of_all_kinds().judged());
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let keys: Vec<&String> = report.as_object().expect("an object").keys().collect();
    // serde_json sorts them here; in the text they stand in the order of the module's documentation.
    assert_eq!(keys.len(), 9);
    let places =
        ["study", "arms", "verdict", "comparisons", "failed_runs", "costs", "sweep", "fairness", "shared"]
            .map(|key| text.find(&format!("\n  \"{key}\": ")).unwrap_or_else(|| panic!("no {key}")));
    assert!(places.is_sorted());
}

#[test]
fn json_of_one_arm() {
    let study = Study::with_baseline(3).arm("grow", 10, 1.0, &[0.1, 0.2, 0.4]);
    expect![[r#"
        {
          "study": {
            "format": 1,
            "name": "made-up",
            "baseline": "whole",
            "seeds": [
              1,
              2,
              3
            ]
          },
          "arms": [
            {
              "arm": "whole",
              "role": "baseline",
              "planned": 3,
              "finished": 3,
              "diverged": 0,
              "failed": 0,
              "missing": 0,
              "final_points": [
                {
                  "budget": "main",
                  "seed": 1,
                  "step": 100,
                  "tokens": 1000,
                  "flops": 1000000000,
                  "loss_nats_per_token": 3.0
                },
                {
                  "budget": "main",
                  "seed": 2,
                  "step": 100,
                  "tokens": 1000,
                  "flops": 1000000000,
                  "loss_nats_per_token": 3.0
                },
                {
                  "budget": "main",
                  "seed": 3,
                  "step": 100,
                  "tokens": 1000,
                  "flops": 1000000000,
                  "loss_nats_per_token": 3.0
                }
              ]
            },
            {
              "arm": "grow",
              "role": "compared",
              "planned": 3,
              "finished": 3,
              "diverged": 0,
              "failed": 0,
              "missing": 0,
              "final_points": [
                {
                  "budget": "main",
                  "seed": 1,
                  "step": 100,
                  "tokens": 1000,
                  "flops": 1000000000,
                  "loss_nats_per_token": 3.1
                },
                {
                  "budget": "main",
                  "seed": 2,
                  "step": 100,
                  "tokens": 1000,
                  "flops": 1000000000,
                  "loss_nats_per_token": 3.2
                },
                {
                  "budget": "main",
                  "seed": 3,
                  "step": 100,
                  "tokens": 1000,
                  "flops": 1000000000,
                  "loss_nats_per_token": 3.4
                }
              ]
            }
          ],
          "verdict": {
            "overall": "One arm is compared with `whole` over 3 seeds. No difference that the seeds could show: `grow` at equal compute (smallest visible ±0.3795). The baseline's final loss is not reached in every seed by `grow` (not within 1.00×). All 6 runs finished.",
            "arms": [
              {
                "arm": "grow",
                "outcome": "inconclusive",
                "headline": "compute-matched",
                "sentence": "`grow`: at equal compute no difference that 3 seeds could show (smallest visible ±0.3795; mean +0.2333 [-0.1461, +0.6128]; 3 seeds, 95% t interval, sign-flip p 0.2500, smallest attainable 0.2500, 100.0% of the baseline's FLOPs used); at equal tokens no difference that 3 seeds could show (smallest visible ±0.3795; mean +0.2333 [-0.1461, +0.6128]; 3 seeds, 95% t interval, sign-flip p 0.2500, smallest attainable 0.2500, 100.0% of the baseline's FLOPs used); at no time ahead after the same exact FLOPs in 3 seeds; the baseline's final loss reached in none of 3 seeds, not within 1.00× its exact FLOPs and 1.00× its tokens; the baseline's tokens cost it 1.000× by the exact ledger, 1.000× by weight_matmul, 1.000× by li2024."
              }
            ]
          },
          "comparisons": [
            {
              "arm": "grow",
              "token_matched": {
                "pairs": [
                  {
                    "seed": 1,
                    "baseline_loss": 3.0,
                    "arm_loss": 3.1,
                    "difference": 0.10000000000000009,
                    "arm_tokens": 1000,
                    "share_of_baseline_flops": 1.0,
                    "same_batches_until": 1000
                  },
                  {
                    "seed": 2,
                    "baseline_loss": 3.0,
                    "arm_loss": 3.2,
                    "difference": 0.20000000000000018,
                    "arm_tokens": 1000,
                    "share_of_baseline_flops": 1.0,
                    "same_batches_until": 1000
                  },
                  {
                    "seed": 3,
                    "baseline_loss": 3.0,
                    "arm_loss": 3.4,
                    "difference": 0.3999999999999999,
                    "arm_tokens": 1000,
                    "share_of_baseline_flops": 1.0,
                    "same_batches_until": 1000
                  }
                ],
                "diverged_seeds": [],
                "left_out": [],
                "statistics": {
                  "summary": {
                    "count": 3,
                    "mean": 0.2333333333333334,
                    "standard_deviation": 0.15275252316519458,
                    "interval_95": {
                      "low": -0.14612497002634284,
                      "high": 0.6127916366930096
                    }
                  },
                  "smallest_visible": 0.37945830335967623,
                  "sign_flip": {
                    "p": 0.25,
                    "smallest_attainable_p": 0.25
                  },
                  "note": null
                },
                "holm_p": 0.25,
                "holm_family": 1,
                "outcome": "inconclusive"
              },
              "compute_matched": {
                "pairs": [
                  {
                    "seed": 1,
                    "baseline_loss": 3.0,
                    "arm_loss": 3.1,
                    "difference": 0.10000000000000009,
                    "arm_tokens": 1000,
                    "share_of_baseline_flops": 1.0,
                    "same_batches_until": 1000
                  },
                  {
                    "seed": 2,
                    "baseline_loss": 3.0,
                    "arm_loss": 3.2,
                    "difference": 0.20000000000000018,
                    "arm_tokens": 1000,
                    "share_of_baseline_flops": 1.0,
                    "same_batches_until": 1000
                  },
                  {
                    "seed": 3,
                    "baseline_loss": 3.0,
                    "arm_loss": 3.4,
                    "difference": 0.3999999999999999,
                    "arm_tokens": 1000,
                    "share_of_baseline_flops": 1.0,
                    "same_batches_until": 1000
                  }
                ],
                "diverged_seeds": [],
                "left_out": [],
                "statistics": {
                  "summary": {
                    "count": 3,
                    "mean": 0.2333333333333334,
                    "standard_deviation": 0.15275252316519458,
                    "interval_95": {
                      "low": -0.14612497002634284,
                      "high": 0.6127916366930096
                    }
                  },
                  "smallest_visible": 0.37945830335967623,
                  "sign_flip": {
                    "p": 0.25,
                    "smallest_attainable_p": 0.25
                  },
                  "note": null
                },
                "holm_p": 0.25,
                "holm_family": 1,
                "outcome": "inconclusive"
              },
              "cost_to_reach": {
                "seeds": [
                  {
                    "seed": 1,
                    "loss_nats_per_token": 3.0,
                    "reach": "not-reached",
                    "flops_ratio": 1.0,
                    "tokens_ratio": 1.0
                  },
                  {
                    "seed": 2,
                    "loss_nats_per_token": 3.0,
                    "reach": "not-reached",
                    "flops_ratio": 1.0,
                    "tokens_ratio": 1.0
                  },
                  {
                    "seed": 3,
                    "loss_nats_per_token": 3.0,
                    "reach": "not-reached",
                    "flops_ratio": 1.0,
                    "tokens_ratio": 1.0
                  }
                ],
                "reached": 0,
                "flops_ratio": null,
                "tokens_ratio": null,
                "not_within_flops": 1.0,
                "not_within_tokens": 1.0,
                "diverged_seeds": [],
                "left_out": []
              },
              "crossover": {
                "seeds": [
                  {
                    "seed": 1,
                    "ahead": "never"
                  },
                  {
                    "seed": 2,
                    "ahead": "never"
                  },
                  {
                    "seed": 3,
                    "ahead": "never"
                  }
                ],
                "share_of_baseline": null
              },
              "continual": null
            }
          ],
          "failed_runs": [],
          "costs": [
            {
              "arm": "grow",
              "seeds": [
                {
                  "seed": 1,
                  "tokens": 1000,
                  "ratios": {
                    "exact": 1.0,
                    "weight_matmul": 1.0,
                    "li2024": 1.0
                  }
                },
                {
                  "seed": 2,
                  "tokens": 1000,
                  "ratios": {
                    "exact": 1.0,
                    "weight_matmul": 1.0,
                    "li2024": 1.0
                  }
                },
                {
                  "seed": 3,
                  "tokens": 1000,
                  "ratios": {
                    "exact": 1.0,
                    "weight_matmul": 1.0,
                    "li2024": 1.0
                  }
                }
              ],
              "mean": {
                "exact": 1.0,
                "weight_matmul": 1.0,
                "li2024": 1.0
              }
            }
          ],
          "sweep": null,
          "fairness": [],
          "shared": {
            "arms": [],
            "saved_flops": 0,
            "flops": 0,
            "saved_training_seconds": 0.0,
            "training_seconds": 0.0
          }
        }
    "#]].assert_eq(&to_json(&study.judged()));
}
