#!/usr/bin/env python3
"""Kills a study again and again at random moments, and holds what it comes to against one that was left alone.

    tests/soak/kills.py [--kills 200] [--log tests/soak/log.jsonl]

Needs `cargo build --release --workspace`. The quickstart, saved every 20 steps; each sitting is ended by SIGKILL after 0.2 to 3
seconds, the last one is left to its end. The reports have to agree in all but wall times, and steps that were taken twice are
counted: those that stood in a log when it was killed, and were not in the checkpoint that it went on from. A line of what was
found is added to the log.
"""

import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from proof import ROOT, SAPWOOD, arguments, note

STUDY = [SAPWOOD, "study", ROOT / "configs/quickstart.toml",
         "--set", "checkpoints.every_steps=20", "--jobs", "2"]


def start(out):
    return subprocess.Popen([*STUDY, "--out", out], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def steps_taken(out):
    """Of every run that is not done: the steps in its log, and the newest that it has saved."""
    taken = {}
    for run in Path(out).glob("runs/*/*/*"):
        if (run / "DONE").exists():
            continue
        metrics = run / "metrics.jsonl"
        logged = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
        saved = [int(path.name[:8]) for path in run.glob("checkpoints/*") if path.name[:8].isdigit() and not path.name.endswith(".tmp")]
        taken[run] = max(0, logged - max(saved, default=0))
    return taken


def without_clocks(value):
    if isinstance(value, dict):
        clocks = {"mean_wall", "wall_seconds", "saved_training_seconds", "training_seconds", "seconds", "shared",
                  "seconds_ratio", "not_within_seconds", "joules_ratio", "not_within_joules"}
        return {key: without_clocks(below) for key, below in value.items() if key not in clocks}
    return [without_clocks(below) for below in value] if isinstance(value, list) else value


def report(out):
    return without_clocks(json.loads((Path(out) / "report/report.json").read_text()))


def main():
    parser = arguments(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    folder = Path(tempfile.mkdtemp(prefix="sapwood-kills-"))
    assert start(folder / "whole").wait() == 0, "the study does not run undisturbed"
    steps = sum(path.read_bytes().count(b"\n") for path in (folder / "whole").glob("runs/*/*/*/metrics.jsonl"))
    kills, again, rounds, same = 0, 0, 0, True
    while kills < args.kills:
        rounds += 1
        out = folder / f"killed-{rounds}"
        while kills < args.kills:
            child = start(out)
            try:
                child.wait(timeout=chance.uniform(0.2, 3.0))
                break  # It came to its end before: the next round begins from nothing.
            except subprocess.TimeoutExpired:
                child.send_signal(signal.SIGKILL)
                child.wait()
                kills += 1
                again += sum(steps_taken(out).values())
        assert start(out).wait() == 0, f"it does not go on in {out}"
        if report(out) != report(folder / "whole"):
            same = False
            print(f"the report differs: {out}", file=sys.stderr)
        elif any(out.rglob("*.tmp")):
            same = False
            print(f"temporary files are left: {out}", file=sys.stderr)
    note(args.log, "kills", {
        "kills": kills, "studies": rounds, "steps_of_a_study": steps, "steps_taken_again": again,
        "steps_over_undisturbed": round(1 + again / (rounds * steps), 4), "same_report": same})
    if same:
        shutil.rmtree(folder)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
