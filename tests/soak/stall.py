#!/usr/bin/env python3
"""How long training stands still for a checkpoint: written at once, and in the background.

    tests/soak/stall.py [--layers 4] [--width 512] [--steps 60] [--every 10] [--threads 1] [--log tests/soak/log.jsonl]

Needs `cargo build --release --workspace`. One run of a model of the given size, twice: with `checkpoints.write = "at-once"` and
`"background"`, in turn `--rounds` times. When a step is over is seen by its line in metrics.jsonl. Printed are the median step, the
median step that has a checkpoint before it, the difference (where the writing takes time from the step's own threads, it is in
there), and how long the run says that it has waited for each. The last checkpoints have to be the same, byte for byte. A line of what was found is added to the log.
"""

import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proof import ROOT, SAPWOOD, arguments, note

TINY = ROOT / "tests/fixtures/tiny.toml"


def study(args, write):
    edits = {
        "seeds = [1, 2]": "seeds = [1]",
        'compare = ["tokens", "compute"]': 'compare = ["tokens"]',
        "threads_per_run = 1": f"threads_per_run = {args.threads}",
        "layers = 2\nwidth = 16\nheads = 2\ncontext = 16":
            f"layers = {args.layers}\nwidth = {args.width}\nheads = 8\ncontext = 64",
        "rate = 1e-2": "rate = 1e-4",
        "steps = 40": f"steps = {args.steps}",
        "every_steps = 10\nsequences = 16": "every_steps = 1000000\nsequences = 4",
        "every_steps = 10\nkeep = 2": f'every_steps = {args.every}\nkeep = 2\nwrite = "{write}"',
    }
    text = TINY.read_text()
    for old, new in edits.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def times_of_steps(child, metrics):
    """When each line of the log came, by this process's clock."""
    times, size = [], 0
    while True:
        over = child.poll() is not None
        try:
            now = os.stat(metrics).st_size
        except FileNotFoundError:
            now = 0
        if now != size:
            size = now
            lines = metrics.read_bytes().count(b"\n")
            times += [time.monotonic()] * (lines - len(times))
        if over:
            return times
        time.sleep(0.001)


def saves_before(args):
    """Steps that have a checkpoint before them."""
    return range(args.every, args.steps, args.every)


def run(args, write):
    with tempfile.TemporaryDirectory(prefix="sapwood-stall-", dir=args.folder) as folder:
        folder = Path(folder)
        words, draw = "the slow old wood grew ring by ring.".split(), random.Random(1)
        (folder / "text.txt").write_text(" ".join(draw.choice(words) for _ in range(40_000)))
        (folder / "study.toml").write_text(study(args, write))
        command = [SAPWOOD, "train", "study.toml", "--arm", "whole", "--out", "out"]
        child = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        one = folder / "out/runs/whole/tokens/seed-1"
        times = times_of_steps(child, one / "metrics.jsonl")
        if child.returncode != 0:
            sys.exit(child.stderr.read().decode())
        last = one / f"checkpoints/{args.steps:08}"
        digest = hashlib.sha256()
        for name in ["weights.safetensors", "moments.safetensors"]:
            digest.update((last / name).read_bytes())
        # What was waited for by then: the last checkpoint, which always is waited for, does not count itself.
        waited = json.loads((last / "state.json").read_text())["costs"]["wall"]["checkpoint_seconds"] / len(saves_before(args))
        size = sum(path.stat().st_size for path in last.rglob("*") if path.is_file())
    seconds = {step: after - before for step, (before, after) in enumerate(zip(times, times[1:]), start=1)}
    saved = [seconds[step] for step in saves_before(args)]
    others = [taken for step, taken in seconds.items() if step % args.every != 0 and step > 1]
    return {"saved": saved, "others": others, "waited": waited, "digest": digest.hexdigest(), "bytes": size}


def main():
    parser = arguments(__doc__)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--folder", help="where checkpoints are written (default: the temporary folder)")
    args = parser.parse_args()
    found = {}
    for _ in range(args.rounds):
        for write in ["at-once", "background"]:
            found.setdefault(write, []).append(run(args, write))
    if len({one["digest"] for runs in found.values() for one in runs}) != 1:
        sys.exit("the last checkpoints differ")
    size = found["background"][0]["bytes"]
    saves = len(saves_before(args))
    print(f"{size / 2**20:.0f} MiB a checkpoint, {saves} a run beside the last, {args.rounds} runs each, {args.threads} threads")
    line = {"layers": args.layers, "width": args.width, "mib": round(size / 2**20), "rounds": args.rounds, "threads": args.threads}
    for write, runs in found.items():
        step = statistics.median(taken for one in runs for taken in one["others"])
        after = statistics.median(taken for one in runs for taken in one["saved"])
        waited = statistics.median(one["waited"] for one in runs)
        print(f"{write:10}  median step {step:.3f} s   with a checkpoint before it {after:.3f} s   "
              f"difference {after - step:+.3f} s   waited for each {waited:.3f} s")
        line[write] = {"step": round(step, 4), "after": round(after, 4), "waited": round(waited, 4)}
    note(args.log, "stall", line)


if __name__ == "__main__":
    main()
