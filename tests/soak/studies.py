#!/usr/bin/env python3
"""Studies back to back, each of many runs in one process: is its memory flat, is a descriptor leaked, is a file left behind?

    tests/soak/studies.py [--minutes 60] [--seeds 40] [--log tests/soak/log.jsonl]

Needs `cargo build --release --workspace`. In turn: the quickstart; the quickstart with every plugin in a process of its own; every
method of configs/methods.toml with short budgets. Each begins in an empty folder and with a HOME and a TMPDIR that are watched.
Every half second the host's resident memory and open descriptors are noted. What is printed of a study, of the time after its
first third (pools and caches have filled up by then): the slope of memory in MiB an hour and what that comes to in the time, and
the most descriptors in both halves. After it, nothing may be left but the study's folder without temporary files, and what the
host keeps for the next time (copies of plugins), which must not grow from a study to the next of its kind. A line for each study
is added to the log, so that several goes add up.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from proof import ROOT, SAPWOOD, apart, arguments, arms, note

QUICKSTART = ROOT / "configs/quickstart.toml"
METHODS = ROOT / "configs/methods.toml"
# Growth in the watched time that is no leak: what is known of runs that are over, and an allocator's habits.
MOST_GROWTH_MIB = 8
MOST_MORE_DESCRIPTORS = 4


def all_apart(study):
    return [option for arm, slots in arms(study).items() for option in apart(arm, slots)]


def kinds(seeds):
    def these(count):
        return ["--set", f"study.seeds={list(range(1, count + 1))}"]

    # As many runs each that a study takes some minutes on two cores.
    return [
        ("quickstart", [QUICKSTART, *these(seeds), "--set", "budget.steps=300"]),
        ("quickstart, isolated", [QUICKSTART, *these(seeds), "--set", "budget.steps=300", *all_apart(QUICKSTART)]),
        ("methods", [METHODS, *these(max(2, seeds // 4)), "--set", "budget.steps=60"]),
    ]


def look(pid):
    """Resident MiB and open descriptors; None when it is over."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        return (int(resident[1]) / 1024, len(os.listdir(f"/proc/{pid}/fd"))) if resident else None
    except (FileNotFoundError, ProcessLookupError):
        return None


def slope(points):
    """Of the line through (seconds, value) with the least squares, an hour."""
    seconds = sum(second for second, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((second - seconds) ** 2 for second, _ in points)
    return 3600 * sum((second - seconds) * (value - mean) for second, value in points) / spread if spread else 0.0


def left_outside(places):
    """Files below the watched folders, and in shared memory."""
    found = {str(path) for place in places for path in place.rglob("*") if not path.is_dir()}
    return found | {f"/dev/shm/{name}" for name in os.listdir("/dev/shm")}


def processes_of(folder):
    """Processes that were given this folder as their temporary one."""
    found, mark = [], f"TMPDIR={folder}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
        except OSError:
            pass  # It has just ended.
    return found


def run(name, options, folder):
    home, temporary, out = folder / "home", folder / "tmp", folder / "out"
    for place in (home, temporary):
        place.mkdir(exist_ok=True)
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary)}
    for variable in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        environment.pop(variable, None)
    before = left_outside([home, temporary])
    begun, samples = time.monotonic(), []
    with open(folder / "said", "w") as said:
        child = subprocess.Popen([SAPWOOD, "study", *options, "--jobs", "2", "--out", out], env=environment, stdout=said,
                                 stderr=subprocess.STDOUT)
        while child.poll() is None:
            if sample := look(child.pid):
                samples.append((time.monotonic() - begun, *sample))
            time.sleep(0.5)
    took = time.monotonic() - begun
    assert child.returncode == 0, f"{name} ended with {child.returncode}: {(folder / 'said').read_text()[-2000:]}"
    watched = [sample for sample in samples if sample[0] > took / 3]
    half = len(watched) // 2
    an_hour = slope([(second, mib) for second, mib, _ in watched])
    descriptors = [max(count for _, _, count in part) for part in (watched[:half], watched[half:])]
    found = {
        "study": name, "seconds": round(took), "runs": len(list(out.glob("runs/*/*/*/DONE"))),
        "mib_an_hour": round(an_hour, 2), "grown_mib": round(an_hour * (took * 2 / 3) / 3600, 2),
        "most_mib": round(max(mib for _, mib, _ in samples), 1), "descriptors": descriptors,
        "temporary_files": len([path for path in out.rglob("*") if path.name.endswith(".tmp") or path.name.startswith(".tmp")]),
        "processes_left": len(processes_of(temporary)),
    }
    after = left_outside([home, temporary])
    found["files_left"] = sorted(after - before)
    shutil.rmtree(out)
    return found


def complaints(found, seen):
    """What is wrong with it; what is kept for the next time is fine once."""
    kept = [path for path in found["files_left"] if "/home/.cache/sapwood/plugins/" in path or "/home/.local/share/sapwood/" in path]
    others = sorted(set(found["files_left"]) - set(kept))
    wrong = {
        "memory grows": found["grown_mib"] > MOST_GROWTH_MIB,
        "descriptors leak": found["descriptors"][1] > found["descriptors"][0] + MOST_MORE_DESCRIPTORS,
        "temporary files": found["temporary_files"] > 0,
        "processes are left": found["processes_left"] > 0,
        f"left behind: {others}": bool(others),
        f"kept once more: {kept}": bool(kept) and found["study"] in seen,
    }
    return [what for what, is_so in wrong.items() if is_so]


def main():
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seeds", type=int, default=40)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sapwood-studies-"))
    end, seen, wrong = time.monotonic() + 60 * args.minutes, set(), []
    while time.monotonic() < end:
        for name, options in kinds(args.seeds):
            if time.monotonic() >= end:
                break
            found = run(name, options, folder)
            found["wrong"] = complaints(found, seen)
            found["files_left"] = len(found["files_left"])
            seen.add(name)
            wrong += found["wrong"]
            note(args.log, "studies", found)
    shutil.rmtree(folder)
    print("; ".join(wrong) if wrong else "flat: nothing leaked, nothing left behind")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
