//! The report in the terminal, of a study of all kinds of arms and of one without results.

use expect_test::expect;

use crate::report::to_terminal;
use crate::verdict::made_up::{Study, of_all_kinds};

#[test]
fn terminal() {
    let text = to_terminal(&of_all_kinds().judged());
    assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    expect![[r#"
        Study made-up, baseline whole, seeds 1 2 3 4 5

        VERDICT
        5 arms are compared with `whole` over 5 seeds. Better: `grow-early` at equal compute by 0.0120 nats per token
        [0.0100, 0.0140]. Worse: `grow-late` at equal compute by 0.3300 nats per token [0.3104, 0.3496]. No difference
        that the seeds could show: `no-growth` at equal compute (smallest visible ±0.0034). Too few seeds for a
        verdict: `grow-twice` at equal compute. Diverged in some seed: `grow-fast-with-a-high-rate` at equal compute.
        The baseline's final loss is reached for fewer FLOPs by `grow-early` (0.996×). The baseline's final loss is
        not reached in every seed by `grow-late` (not within 1.00×), `no-growth` (2 of 5 seeds; the others not within
        1.00×), `grow-twice` (1 of 2 seeds; the others not within 0.68×). The intervals hold arm by arm; Holm's p
        values are corrected over the arms. Of 30 runs 27 finished: 1 diverged, 1 failed, 1 missing.

        FINAL VALIDATION LOSS, ARM - BASELINE
        Nats per token, paired by seed; negative is better. The verdict rests on the 95% t interval. Visible: the
        smallest effect that the seeds could show. Least p: the smallest that so many seeds can give.
        arm                 equal    pairs  difference                  visible  p       least p  Holm    outcome
        grow-early          compute  5/5    -0.0120 [-0.0140, -0.0100]  ±0.0020  0.0625  0.0625   0.3125  better
        grow-early          tokens   5/5    +1.1880 [+1.1860, +1.1900]  ±0.0020  0.0625  0.0625   0.3125  worse
        grow-late           compute  5/5    +0.3300 [+0.3104, +0.3496]  ±0.0196  0.0625  0.0625   0.3125  worse
        grow-late           tokens   5/5    +0.5300 [+0.5104, +0.5496]  ±0.0196  0.0625  0.0625   0.3125  worse
        no-growth           compute  5/5    +0.0006 [-0.0028, +0.0040]  ±0.0034  0.7500  0.0625   1.0000  inconclusive
        no-growth           tokens   5/5    +0.0006 [-0.0028, +0.0040]  ±0.0034  0.7500  0.0625   1.0000  inconclusive
        grow-fast…igh-rate  compute  4/5    -0.0200 [-0.0330, -0.0070]  ±0.0130  0.1250  0.1250   0.3750  1 diverged
        grow-fast…igh-rate  tokens   4/5    +0.1800 [+0.1670, +0.1930]  ±0.0130  0.1250  0.1250   0.3750  1 diverged
        grow-twice          compute  1/5    -0.0100                     -        1.0000  1.0000   1.0000  few seeds
        grow-twice          tokens   2/5    +1.1895 [+1.1831, +1.1959]  ±0.0064  0.5000  0.5000   1.0000  few seeds

        COST TO REACH THE BASELINE'S FINAL LOSS
        As a ratio to the baseline's own, first crossing to first crossing. Nothing is extrapolated. Seconds and
        joules are compared where every run was measured alone (`--jobs 1`), joules where the machine counts them.
        arm                         reached  exact FLOPs            tokens
        grow-early                  5/5      0.996× [0.996, 0.997]  1.594× [1.593, 1.595]
        grow-late                   0/5      not within 1.00×       not within 1.10×
        no-growth                   2/5      not within 1.00×       not within 1.00×
        grow-fast-with-a-high-rate  4/5      -                      -
        grow-twice                  1/5      not within 0.68×       not within 1.10×

        AHEAD AFTER THE SAME EXACT FLOPS
        Seeds in which an arm is ahead of the baseline to the end, for a while, or never; and, where it falls behind
        for good in all of them, when: as a share of the FLOPs that the baseline spends.
        arm                         to the end  for a while  never  until
        grow-early                  5           0            0      -
        grow-late                   0           0            5      -
        no-growth                   2           0            3      -
        grow-fast-with-a-high-rate  4           0            1      -
        grow-twice                  2           0            0      -

        COST OF THE BASELINE'S TOKENS
        As a ratio to the baseline's, by three ledgers. Comparisons rest on the exact one.
        arm                         exact   weight_matmul  li2024
        grow-early                  0.625×  0.583×         0.531×
        grow-late                   0.909×  0.899×         0.886×
        no-growth                   1.000×  1.000×         1.000×
        grow-fast-with-a-high-rate  0.909×  0.899×         0.886×
        grow-twice                  0.625×  0.583×         0.531×

        ARM BY ARM
        - `grow-early`: at equal compute better by 0.0120 nats per token [0.0100, 0.0140] (5 seeds, 95% t interval,
          sign-flip p 0.0625, smallest attainable 0.0625, 0.3125 after Holm over 5 arms, 100.0% of the baseline's
          FLOPs used); at equal tokens worse by 1.1880 nats per token [1.1860, 1.1900] (5 seeds, 95% t interval,
          sign-flip p 0.0625, smallest attainable 0.0625, 0.3125 after Holm over 5 arms, 62.5% of the baseline's FLOPs
          used); ahead after the same exact FLOPs to the end in 5 seeds; the baseline's final loss reached in 5 seeds
          for 0.996× its exact FLOPs [0.996, 0.997] and 1.594× its tokens [1.593, 1.595]; the baseline's tokens cost
          it 0.625× by the exact ledger, 0.583× by weight_matmul, 0.531× by li2024.
        - `grow-late`: at equal compute worse by 0.3300 nats per token [0.3104, 0.3496] (5 seeds, 95% t interval,
          sign-flip p 0.0625, smallest attainable 0.0625, 0.3125 after Holm over 5 arms, 100.0% of the baseline's
          FLOPs used); at equal tokens worse by 0.5300 nats per token [0.5104, 0.5496] (5 seeds, 95% t interval,
          sign-flip p 0.0625, smallest attainable 0.0625, 0.3125 after Holm over 5 arms, 90.9% of the baseline's FLOPs
          used); at no time ahead after the same exact FLOPs in 5 seeds; the baseline's final loss reached in none of
          5 seeds, not within 1.00× its exact FLOPs and 1.10× its tokens; the baseline's tokens cost it 0.909× by the
          exact ledger, 0.899× by weight_matmul, 0.886× by li2024.
        - `no-growth`: at equal compute no difference that 5 seeds could show (smallest visible ±0.0034; mean +0.0006
          [-0.0028, +0.0040]; 5 seeds, 95% t interval, sign-flip p 0.7500, smallest attainable 0.0625, 1.0000 after
          Holm over 5 arms, 100.0% of the baseline's FLOPs used); at equal tokens no difference that 5 seeds could
          show (smallest visible ±0.0034; mean +0.0006 [-0.0028, +0.0040]; 5 seeds, 95% t interval, sign-flip p
          0.7500, smallest attainable 0.0625, 1.0000 after Holm over 5 arms, 100.0% of the baseline's FLOPs used);
          after the same exact FLOPs ahead to the end in 2 of 5 seeds, for a while in 0, never in 3; the baseline's
          final loss reached in 2 of 5 seeds, in the others not within 1.00× its exact FLOPs and 1.00× its tokens; the
          baseline's tokens cost it 1.000× by the exact ledger, 1.000× by weight_matmul, 1.000× by li2024.
        - `grow-fast-with-a-high-rate`: at equal compute it diverged in 1 of 5 seeds, so no mean stands for it (the
          mean difference over 4 seeds that did not is -0.0200); at equal tokens it diverged in 1 of 5 seeds, so no
          mean stands for it (the mean difference over 4 seeds that did not is +0.1800); after the same exact FLOPs
          ahead to the end in 4 of 5 seeds, for a while in 0, never in 1; the baseline's final loss reached in 4 of 5
          seeds, diverged before in 1; the baseline's tokens cost it 0.909× by the exact ledger, 0.899× by
          weight_matmul, 0.886× by li2024; 1 of its 5 runs without a result.
        - `grow-twice`: at equal compute a mean difference of -0.0100 nats per token over 1 seed, too few for a
          verdict (at least 3), 4 of 5 seeds left out; at equal tokens a mean difference of +1.1895 nats per token
          over 2 seeds, too few for a verdict (at least 3), 3 of 5 seeds left out; ahead after the same exact FLOPs to
          the end in 2 seeds; the baseline's final loss reached in 1 of 2 seeds, in the others not within 0.68× its
          exact FLOPs and 1.10× its tokens; the baseline's tokens cost it 0.625× by the exact ledger, 0.583× by
          weight_matmul, 0.531× by li2024; 2 of its 5 runs without a result.

        RUNS
        arm                         planned  finished  diverged  failed  missing  mean final loss
        whole (baseline)            5        5         0         0       0        3.0000
        grow-early                  5        5         0         0       0        2.9880
        grow-late                   5        5         0         0       0        3.3300
        no-growth                   5        5         0         0       0        3.0006
        grow-fast-with-a-high-rate  5        4         1         0       0        2.9800
        grow-twice                  5        3         0         1       1        3.3220

        RUNS WITHOUT A RESULT
        - grow-fast-with-a-high-rate/main/seed-2 diverged: its loss was no number any more at step 70
        - grow-twice/main/seed-3 failed: the plugin `example/grow-twice` failed in `before_step`: index out of bounds
        - grow-twice/main/seed-5 missing: it has not been run

        SEEDS LEFT OUT OF A COMPARISON
        - grow-twice, equal compute, seed 1: not reached: it used 68.7% of the baseline's exact FLOPs, at least 98.0%
          are required
        - grow-twice, equal compute, seed 2: it was not trained on the baseline's batches: after 1000 tokens their
          hash is another-, the baseline's 0002-001
        - grow-twice, equal compute, seed 3: no run: the plugin `example/grow-twice` failed in `before_step`: index
          out of bounds
        - grow-twice, equal compute, seed 5: no run: it has not been run
        - grow-twice, equal tokens, seed 2: it was not trained on the baseline's batches: after 1000 tokens their hash
          is another-, the baseline's 0002-001
        - grow-twice, equal tokens, seed 3: no run: the plugin `example/grow-twice` failed in `before_step`: index out
          of bounds
        - grow-twice, equal tokens, seed 5: no run: it has not been run
        - grow-twice, cost to reach, seed 2: it was not trained on the baseline's batches: after 1000 tokens their
          hash is another-, the baseline's 0002-001
        - grow-twice, cost to reach, seed 3: no run: the plugin `example/grow-twice` failed in `before_step`: index
          out of bounds
        - grow-twice, cost to reach, seed 5: no run: it has not been run
    "#]].assert_eq(&text);
}

#[test]
fn a_study_without_results_is_reported_too() {
    let mut study = Study::with_baseline(2).arm("grow", 10, 1.0, &[]);
    study.runs.clear();
    expect![[r#"
        Study made-up, baseline whole, seeds 1 2

        VERDICT
        One arm is compared with `whole` over 2 seeds. Not compared: `grow`. Of 4 runs 0 finished: 4 missing.

        FINAL VALIDATION LOSS, ARM - BASELINE
        Nats per token, paired by seed; negative is better. The verdict rests on the 95% t interval. Visible: the
        smallest effect that the seeds could show. Least p: the smallest that so many seeds can give.
        arm   equal    pairs  difference  visible  p  least p  Holm  outcome
        grow  compute  0/2    -           -        -  -        -     not compared
        grow  tokens   0/2    -           -        -  -        -     not compared

        COST TO REACH THE BASELINE'S FINAL LOSS
        As a ratio to the baseline's own, first crossing to first crossing. Nothing is extrapolated. Seconds and
        joules are compared where every run was measured alone (`--jobs 1`), joules where the machine counts them.
        arm   reached  exact FLOPs  tokens
        grow  0/2      -            -

        ARM BY ARM
        - `grow`: at equal compute not compared, none of 2 seeds has a pair; at equal tokens not compared, none of 2
          seeds has a pair; cost of the baseline's final loss not compared, none of 2 seeds has a pair; 2 of its 2
          runs without a result.

        RUNS
        arm               planned  finished  diverged  failed  missing  mean final loss
        whole (baseline)  2        0         0         0       2        -
        grow              2        0         0         0       2        -

        RUNS WITHOUT A RESULT
        - whole/main/seed-1 missing: it has not been run
        - whole/main/seed-2 missing: it has not been run
        - grow/main/seed-1 missing: it has not been run
        - grow/main/seed-2 missing: it has not been run

        SEEDS LEFT OUT OF A COMPARISON
        - grow, equal compute, seeds 1 2: no baseline: it has not been run
        - grow, equal tokens, seeds 1 2: no baseline: it has not been run
        - grow, cost to reach, seeds 1 2: no baseline: it has not been run
    "#]].assert_eq(&to_terminal(&study.judged()));
}
