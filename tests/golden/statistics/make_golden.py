"""What SciPy says of generated samples, for host/study/src/statistics.rs.

    python make_golden.py > golden.json       (SciPy 1.17.1 and NumPy 2.4.6 made the file that is here)

Samples of 2 to 20 numbers from a fixed generator, of several scales, some with ties, some far from zero; 30 families of p values.
For a sample: mean, standard deviation, two-sided 95 % t interval, the t test's p, the exact sign-flip p, and the p of the two
one-sided tests for equivalence within a margin (TOST, Schuirmann 1987).
"""

import json

import numpy as np
from scipy import stats

rng = np.random.default_rng(20241118)


def case(x, margin):
    t = stats.ttest_1samp(x, 0.0)
    interval = t.confidence_interval(0.95)
    flips = stats.permutation_test((x,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=True)
    lower = stats.ttest_1samp(x, -margin, alternative="greater").pvalue
    upper = stats.ttest_1samp(x, margin, alternative="less").pvalue
    return {"sample": x.tolist(), "margin": margin, "mean": x.mean(), "standard_deviation": x.std(ddof=1),
            "interval_95": [interval.low, interval.high], "t_p": t.pvalue, "sign_flip_p": flips.pvalue,
            "equivalence_p": max(lower, upper)}


def samples():
    for n in [2, 3, 4, 5, 6, 8, 10, 13, 16, 18]:
        for scale, shift in [(1.0, 0.0), (1e-3, 5e-4), (0.02, -0.05), (3.0, 40.0)]:
            yield rng.normal(shift, scale, n)
        # Ties: multiples of an eighth, which are exact.
        yield rng.integers(-8, 9, n) / 8 + 0.125


def family(n):
    p = rng.uniform(0, 1, n) ** 3
    return {"p": p.tolist(), "holm": holm(p).tolist()}


def holm(p):
    """Step down, from the definition: the k-th smallest of n is multiplied by n - k, and none falls below one before it."""
    order = np.argsort(p, kind="stable")
    steps = np.minimum(np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p)))), 1)
    out = np.empty_like(p)
    out[order] = steps
    return out


cases = [case(x, float(margin)) for x in samples() for margin in [2.0 * x.std(ddof=1) + abs(x.mean()) / 2]]
quantiles = [[df, stats.t.ppf(0.975, df)] for df in list(range(1, 40)) + [100, 1000]]
print(json.dumps({"cases": cases, "families": [family(n) for n in range(1, 31)], "t_975": quantiles}, indent=1))
