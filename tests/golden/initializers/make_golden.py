"""What every initializer makes of a two-layer GPT-2 eight wide, and what the grown model's loss is: in NumPy, from the
methods' definitions alone, for tests/methods/goldens.rs.

    python make_golden.py > golden.json       (NumPy; 2.4.6 made the file that is here)

The model is GPT-2's pre-norm block with biases, two heads, a context of 6, 11 tokens, a tied head, epsilon 1e-5. No
weight is stored: element i of the k-th tensor is 0.3 sin(0.73 i + 1.31 k) in f32, and a gain is one more. Tensors are
numbered: 4 shared ones, 12 of each block, those of the initial model's new block from 88 on. The new block is born third;
the model's final depth is 6, its initial standard deviation 0.2, and its random key that of seed 7, slot `new_blocks`,
number 2. Matrices are [in, out].

Below `widened` the model is as wide as `widths` says (stream, heads of four columns, hidden neurons) instead of 8, 2 and 32;
the blocks' keys are those of numbers 0 and 1, that of the shared tensors 2^64 - 2, and the loss is that of the wider model.
Each map is written as two matrices around the old one: which outputs are copied, and which share of each input is read.

For each tensor the file has five numbers: its first and its last element, the sum, the sum of squares, and the sum of
i w_i / n. For each place of the new block (below, between, above) it has the mean loss of two rows of six targets.
"""

import json
import math

import numpy as np

WIDTH, HEADS, CONTEXT, VOCABULARY = 8, 2, 6, 11
FINAL_DEPTH, INIT_STD = 6, 0.2
CLASSES = [
    ("ln_1.weight", (8,)), ("ln_1.bias", (8,)),
    ("attn.c_attn.weight", (8, 24)), ("attn.c_attn.bias", (24,)),
    ("attn.c_proj.weight", (8, 8)), ("attn.c_proj.bias", (8,)),
    ("ln_2.weight", (8,)), ("ln_2.bias", (8,)),
    ("mlp.c_fc.weight", (8, 32)), ("mlp.c_fc.bias", (32,)),
    ("mlp.c_proj.weight", (32, 8)), ("mlp.c_proj.bias", (8,)),
]
GAINS = {"ln_1.weight", "ln_2.weight", "ln_f.weight"}
OUTPUTS = {"attn.c_proj.weight", "attn.c_proj.bias", "mlp.c_proj.weight", "mlp.c_proj.bias"}


def given(name, shape, number):
    wave = 0.3 * np.sin(0.73 * np.arange(math.prod(shape)) + 1.31 * number)
    return (wave + (name in GAINS)).astype(np.float32).reshape(shape)


def block(first):
    return {name: given(name, shape, first + k) for k, (name, shape) in enumerate(CLASSES)}


SHARED = [given(*tensor) for tensor in
          [("wte", (VOCABULARY, WIDTH), 0), ("wpe", (CONTEXT, WIDTH), 1), ("ln_f.weight", (8,), 2), ("ln_f.bias", (8,), 3)]]
OLD = [block(4), block(16)]
ORIGINAL = block(88)

# ---------------------------------------------------------------- random numbers: Philox 4x32-10, Box and Muller

U64 = (1 << 64) - 1


def mixed(x):
    x = (x + 0x9E3779B97F4A7C15) & U64
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & U64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & U64
    return x ^ (x >> 31)


def named(key, name):
    fnv = 0xCBF29CE484222325
    for byte in name.encode():
        fnv = ((fnv ^ byte) * 0x100000001B3) & U64
    return mixed(key ^ mixed(fnv))


def numbered(key, number):
    return mixed(((key << 17 | key >> 47) & U64) ^ mixed(number))


def philox(block, key):
    a, b, c, d = block & 0xFFFFFFFF, block >> 32, 0, 0
    low, high = key & 0xFFFFFFFF, key >> 32
    for _ in range(10):
        first, second = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (second >> 32) ^ b ^ low, second & 0xFFFFFFFF, (first >> 32) ^ d ^ high, first & 0xFFFFFFFF
        low, high = (low + 0x9E3779B9) & 0xFFFFFFFF, (high + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


def normals(key, shape):
    count = math.prod(shape)
    draws = []
    for number in range((count + 1) // 2):
        a, b, c, d = philox(number, key)
        first, second = ((a << 32 | b) >> 11) / 2**53, ((c << 32 | d) >> 11) / 2**53
        radius = math.sqrt(-2 * math.log(1 - first))
        draws += [radius * math.cos(2 * math.pi * second), radius * math.sin(2 * math.pi * second)]
    return np.array(draws[:count]).reshape(shape)


SLOT_KEY = named(mixed(7 ^ 0x73617077_6F6F6421), "new_blocks")
KEY = numbered(SLOT_KEY, 2)


def draws_below(key, count, times):
    words = [word for number in range((times + 1) // 2) for word in philox(number, key)]
    return [(words[2 * i] << 32 | words[2 * i + 1]) * count >> 64 for i in range(times)]


# ---------------------------------------------------------------- the methods


def original(_):
    return dict(ORIGINAL)


def copy(source):
    return dict(OLD[source])


def zero_out(source):
    base = ORIGINAL if source is None else OLD[source]
    return {name: 0 * w if name in OUTPUTS else w for name, w in base.items()}


def ln_zero(source):
    base = ORIGINAL if source is None else OLD[source]
    return {name: w if w.ndim == 2 else 0 * w for name, w in base.items()}


def lerp(source, t=0.5, zero=False):
    below, above = OLD[source], OLD[min(source + 1, len(OLD) - 1)]
    between = {name: (1 - t) * below[name].astype(float) + t * above[name] for name in below}
    return {name: 0 * w if zero and name in OUTPUTS else w for name, w in between.items()}


def copy_noise(source, eta=0.01):
    def noisy(name, w):
        if w.ndim < 2:
            return w
        rms = np.sqrt(np.mean(w.astype(float) ** 2))
        return w + eta * rms * normals(named(named(KEY, "copy-noise"), name), w.shape)
    return {name: noisy(name, w) for name, w in OLD[source].items()}


def shrink_perturb(source, shrink=0.4, kappa=1.0):
    def one(name, w):
        mean = 1.0 if name in GAINS else 0.0
        kept = shrink * w.astype(float) + (1 - shrink) * mean
        if w.ndim < 2:
            return kept
        std = INIT_STD / math.sqrt(2 * FINAL_DEPTH) if name in OUTPUTS else INIT_STD
        return kept + kappa * std * normals(named(named(KEY, "shrink-perturb"), name), w.shape)
    return {name: one(name, w) for name, w in OLD[source].items()}


def split_residual(source, copies):
    return {name: w.astype(float) / copies if name in OUTPUTS else w for name, w in OLD[source].items()}


# ---------------------------------------------------------------- heads and neurons in another block's order


def nearest_order(cost):
    """For each column j the row p[j], each row once, with the least sum of cost[p[j], j]. From any order on, a ring of
    columns hands its rows on, as long as some ring makes the sum smaller; where none does, it is least (Klein 1967)."""
    n = len(cost)
    order = np.arange(n)
    while True:
        # What it costs that column i's row goes to column j; rings by the algorithm of Bellman and Ford.
        step = cost[order] - np.diag(cost[order])[:, None]
        way, before = np.zeros(n), np.zeros(n, int)
        for _ in range(n):
            longer = way[:, None] + step
            shorter = longer.min(0) < way - 1e-12
            if not shorter.any():
                return order
            before = np.where(shorter, longer.argmin(0), before)
            way = np.where(shorter, longer.min(0), way)
        at = shorter.argmax()
        for _ in range(n):
            at = before[at]
        ring = [at]
        while before[ring[-1]] != at:
            ring.append(before[ring[-1]])
        order[ring] = order[before[ring]]


def ot_average(source, heads=HEADS, zero=True):
    a, b = OLD[source], OLD[min(source + 1, len(OLD) - 1)]
    each = WIDTH // heads

    def neurons(block):
        return np.hstack([block["mlp.c_fc.weight"].T, block["mlp.c_fc.bias"][:, None], block["mlp.c_proj.weight"]])

    def head_list(block):
        values = block["attn.c_attn.weight"][:, 2 * WIDTH:].reshape(WIDTH, heads, each).transpose(1, 0, 2)
        return np.hstack([values.reshape(heads, -1), block["attn.c_proj.weight"].reshape(heads, -1)])

    def order(parts):
        below, above = parts(a).astype(float), parts(b).astype(float)
        return nearest_order(((below[:, None] - above[None]) ** 2).sum(-1))

    n, h = order(neurons), order(head_list)
    aligned = dict(a)
    for name in ("attn.c_attn.weight", "attn.c_attn.bias"):
        aligned[name] = a[name].reshape(-1, 3, heads, each)[:, :, h].reshape(a[name].shape)
    aligned["attn.c_proj.weight"] = a["attn.c_proj.weight"].reshape(heads, each, WIDTH)[h].reshape(WIDTH, WIDTH)
    aligned["mlp.c_fc.weight"] = a["mlp.c_fc.weight"][:, n]
    aligned["mlp.c_fc.bias"], aligned["mlp.c_proj.weight"] = a["mlp.c_fc.bias"][n], a["mlp.c_proj.weight"][n]
    between = {name: (aligned[name].astype(float) + b[name]) / 2 for name in a}
    return {name: 0 * w if zero and name in OUTPUTS else w for name, w in between.items()}


def linear_combination(source, weights, classes={}):
    def one(name):
        terms = classes.get(name, weights).items()
        return sum(w * OLD[min(max(source + offset, 0), len(OLD) - 1)][name].astype(float) for offset, w in terms)
    return {name: one(name) for name in OLD[source]}


CASES = [
    ("original", "{}", None, original(None)),
    ("copy", "{}", 0, copy(0)),
    ("zero-out", "{}", None, zero_out(None)),
    ("zero-out", "{}", 1, zero_out(1)),
    ("ln-zero", "{}", None, ln_zero(None)),
    ("ln-zero", "{}", 0, ln_zero(0)),
    ("lerp", "{}", 0, lerp(0)),
    ("lerp", '{ "t": 0.25, "zero_out": true }', 0, lerp(0, 0.25, True)),
    ("lerp", '{ "t": 0.25 }', 1, lerp(1, 0.25)),
    ("copy-noise", "{}", 1, copy_noise(1)),
    ("copy-noise", '{ "eta": 0.03 }', 0, copy_noise(0, 0.03)),
    ("shrink-perturb", "{}", 0, shrink_perturb(0)),
    ("shrink-perturb", '{ "lambda": 0.7, "kappa": 0.5 }', 1, shrink_perturb(1, 0.7, 0.5)),
    ("split-residual", '{ "copies": 2 }', 0, split_residual(0, 2)),
    ("split-residual", '{ "copies": 3 }', 1, split_residual(1, 3)),
    ("ot-average", '{ "heads": 2 }', 0, ot_average(0)),
    ("ot-average", '{ "heads": 2, "zero_out": false }', 0, ot_average(0, zero=False)),
    ("ot-average", '{ "heads": 2, "zero_out": false }', 1, ot_average(1, zero=False)),
    ("linear-combination", '{ "weights": [{ "offset": 0, "weight": 1.5 }, { "offset": -1, "weight": -0.5 }] }', 1,
     linear_combination(1, {0: 1.5, -1: -0.5})),
    ("linear-combination", '{ "weights": [{ "offset": -1, "weight": 0.2 }, { "offset": 0, "weight": 0.5 }, { "offset": 1,'
     ' "weight": 0.4 }], "classes": { "mlp.c_fc.weight": [{ "offset": 2, "weight": 1 }] } }', 0,
     linear_combination(0, {-1: 0.2, 0: 0.5, 1: 0.4}, {"mlp.c_fc.weight": {2: 1.0}})),
]

# ---------------------------------------------------------------- wider models

HEAD = WIDTH // HEADS


class Side:
    """Inputs or outputs of a map: `copies` is [before, after], `shares` what each of those after has of its source."""

    def __init__(self, made_of, before, share, average=False):
        after = len(made_of)
        whole = after // before * before if average else after
        count = lambda source: made_of[:whole].count(source)
        self.before, self.after, self.whole = before, after, whole
        self.rank = np.array([made_of[:j].count(source) for j, source in enumerate(made_of)])
        self.made_of = made_of
        self.shares = np.array([share(count(s), r) if j < whole else 1.0
                                for j, (s, r) in enumerate(zip(made_of, self.rank))])
        self.copies = np.zeros((before, after))
        self.copies[made_of, range(after)] = 1
        self.outputs = self.copies.copy()
        self.outputs[:, whole:] = 1 / before
        self.inputs = self.shares[:, None] * self.copies.T


def wider(number, widths, share, of_next=False, noise=0.0, average=False, diagonal=False):
    """The two blocks and the shared tensors of a wider model; `share(made, rank)` is what the rank-th of those that are made
    of the same keeps of what goes out."""
    width, heads, hidden = widths
    key = numbered(SLOT_KEY, number)
    b = OLD[number] if number < 2 else dict(zip(("wte", "wpe", "ln_f.weight", "ln_f.bias"), SHARED))
    above = OLD[min(number + 1, 1)] if of_next and number < 2 else b
    one = (lambda made, rank: 1.0) if diagonal else share
    stream = Side([j % WIDTH for j in range(width)], WIDTH, one, average)
    columns = Side([j % WIDTH for j in range(HEAD * heads)], WIDTH, one)
    drawn = [j % 32 for j in range(32, hidden)] if diagonal else draws_below(named(key, "neurons"), 32, hidden - 32)
    neurons = Side(list(range(32)) + drawn, 32, one)

    def linear(name, rows, outputs, parts=1):
        """Rows of `rows`, columns of `outputs`, those that come of the next block where they are; a bias has no rows."""
        def part(block, k):
            w = np.atleast_2d(block[name].astype(float))
            w = w[:, k * outputs.before:(k + 1) * outputs.before] @ outputs.outputs
            return rows.inputs @ w if rows else w
        def both(k):
            w = part(b, k)
            w[:, outputs.before:] = part(above, k)[:, outputs.before:]
            return w * (rows.rank[:, None] == outputs.rank[None]) if rows and diagonal else w
        w = np.hstack([both(k) for k in range(parts)])
        if noise and w.shape[0] > 1:
            w = w.astype(np.float32).astype(float)
            rms = math.sqrt((w**2).mean())
            draws = normals(named(named(key, "noise"), name if "." in name else name + ".weight"), (w.shape[0] * parts * (outputs.after - outputs.before),))
            new = np.tile(np.arange(outputs.after) >= outputs.before, parts)
            w[:, new] += noise * rms * draws.reshape(w.shape[0], -1)
        return w if rows or len(b[name].shape) == 2 else w[0]

    def norm_of(name):
        gain = b[name + ".weight"].astype(float) @ stream.copies * math.sqrt(stream.whole / stream.after)
        shift = b[name + ".bias"].astype(float) @ stream.copies
        shift[stream.whole:] = 0
        return {name + ".weight": gain, name + ".bias": shift}

    if number == 2**64 - 2:
        of_final = Side(stream.made_of, WIDTH, share, average)
        final = {name: of_final.shares * w for name, w in norm_of("ln_f").items()}
        return [linear("wte", None, stream), linear("wpe", None, stream), final["ln_f.weight"], final["ln_f.bias"]]
    return {**norm_of("ln_1"), **norm_of("ln_2"),
            "attn.c_attn.weight": linear("attn.c_attn.weight", stream, columns, 3),
            "attn.c_attn.bias": linear("attn.c_attn.bias", None, columns, 3),
            "attn.c_proj.weight": linear("attn.c_proj.weight", columns, stream),
            "attn.c_proj.bias": linear("attn.c_proj.bias", None, stream),
            "mlp.c_fc.weight": linear("mlp.c_fc.weight", stream, neurons),
            "mlp.c_fc.bias": linear("mlp.c_fc.bias", None, neurons),
            "mlp.c_proj.weight": linear("mlp.c_proj.weight", neurons, stream),
            "mlp.c_proj.bias": linear("mlp.c_proj.bias", None, stream)}


def even(made, _):
    return 1 / made


def uneven(kept):
    return lambda made, rank: 1 if made == 1 else kept if rank == 0 else (1 - kept) * rank / sum(range(1, made))


# The method, its configuration, how wide, whether the function stays, and how it is made.
WIDENED = [
    ("net2net", "{}", (8, 2, 45), True, dict(share=even)),
    ("net2net", '{ "noise": 0.05 }', (8, 2, 45), False, dict(share=even, noise=0.05)),
    ("aki", "{}", (8, 2, 45), False, dict(share=even, of_next=True)),
    ("lemon", "{}", (8, 2, 45), True, dict(share=uneven(0.7), average=True)),
    ("lemon", '{ "kept": 0.4 }', (8, 2, 45), True, dict(share=uneven(0.4), average=True)),
    ("net2net", "{}", (8, 5, 32), True, dict(share=even)),
    ("net2net", "{}", (16, 3, 45), True, dict(share=even)),
    ("net2net", "{}", (13, 2, 32), False, dict(share=even)),
    ("net2net", '{ "noise": 0.05 }', (16, 3, 45), False, dict(share=even, noise=0.05)),
    ("aki", "{}", (13, 3, 45), False, dict(share=even, of_next=True)),
    ("lemon", "{}", (24, 5, 70), True, dict(share=uneven(0.7), average=True)),
    ("lemon", '{ "kept": 0.4 }', (13, 3, 45), False, dict(share=uneven(0.4), average=True)),
    ("staged", "{}", (16, 4, 64), True, dict(share=even, diagonal=True)),
    ("staged", "{}", (24, 6, 96), True, dict(share=even, diagonal=True)),
]

# ---------------------------------------------------------------- the model


def norm(x, gain, shift):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain + shift


def attention(x, b):
    q, k, v = np.split(x @ b["attn.c_attn.weight"] + b["attn.c_attn.bias"], 3, -1)
    split = lambda y: y.reshape(CONTEXT, -1, HEAD).transpose(1, 0, 2)
    scores = split(q) @ split(k).transpose(0, 2, 1) / math.sqrt(HEAD)
    scores[:, np.triu(np.ones((CONTEXT, CONTEXT), bool), 1)] = -np.inf
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return (weights @ split(v)).transpose(1, 0, 2).reshape(CONTEXT, -1) @ b["attn.c_proj.weight"] + b["attn.c_proj.bias"]


def mlp(x, b):
    h = x @ b["mlp.c_fc.weight"] + b["mlp.c_fc.bias"]
    h = 0.5 * h * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    return h @ b["mlp.c_proj.weight"] + b["mlp.c_proj.bias"]


def losses(ids, blocks, shared):
    wte, wpe, gain, shift = [w.astype(np.float32).astype(float) for w in shared]
    x = wte[ids[:-1]] + wpe
    for b in blocks:
        x = x + attention(norm(x, b["ln_1.weight"], b["ln_1.bias"]), b)
        x = x + mlp(norm(x, b["ln_2.weight"], b["ln_2.bias"]), b)
    logits = norm(x, gain, shift) @ wte.T
    logits -= logits.max(-1, keepdims=True)
    return np.log(np.exp(logits).sum(-1)) - logits[np.arange(CONTEXT), ids[1:]]


def mean_loss(blocks, shared=SHARED):
    blocks = [{name: w.astype(np.float32).astype(float) for name, w in b.items()} for b in blocks]
    rows = np.array([(5 * i * i + 3 * i) % VOCABULARY for i in range(14)]).reshape(2, 7)
    return float(np.mean([losses(row, blocks, shared) for row in rows]))


def summary(w):
    flat = w.astype(np.float32).astype(float).ravel()
    ramp = np.arange(len(flat)) / len(flat)
    return [float(f"{x:.9g}") for x in (flat[0], flat[-1], flat.sum(), (flat**2).sum(), (ramp * flat).sum())]


def case(name, config, source, made):
    made = {class_: w.astype(np.float32) for class_, w in made.items()}
    places = [mean_loss(OLD[:at] + [made] + OLD[at:]) for at in range(3)]
    return {"id": f"sapwood/{name}", "config": config, "source": source, "losses": places,
            "tensors": {class_: summary(made[class_]) for class_, _ in CLASSES}}


def widened_case(name, config, widths, keeps, way):
    blocks = [wider(number, widths, **way) for number in (0, 1)]
    shared = wider(2**64 - 2, widths, **way) if widths[0] != WIDTH else SHARED
    tensors = [{class_: summary(b[class_]) for class_, _ in CLASSES} for b in blocks]
    names = ("wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias")
    return {"id": f"sapwood/{name}", "config": config, "widths": list(widths), "keeps": keeps,
            "loss": mean_loss(blocks, shared), "shared": dict(zip(names, map(summary, shared))), "blocks": tensors}


results = {"loss_before": mean_loss(OLD), "cases": [case(*of) for of in CASES],
           "widened": [widened_case(*of) for of in WIDENED]}
print(json.dumps(results, indent=1).replace("\n     ", " ").replace("\n    ]", " ]"))
