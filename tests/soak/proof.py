"""What the long proofs have in common: the binary, the arms of a study, the log that says what ran when on which commit."""

import argparse
import json
import re
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAPWOOD = ROOT / "target/release/sapwood"


def arguments(text):
    """A parser of the script's arguments, with `--log`; `text` is the script's own."""
    parser = argparse.ArgumentParser(description=text.split("\n\n")[0])
    parser.add_argument("--log", type=Path, default=Path(__file__).parent / "log.jsonl")
    return parser


def logged(log):
    """What the log has so far."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def note(log, proof, found):
    """Adds a line to the log, and prints it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    line = json.dumps({"proof": proof, "commit": commit, "date": time.strftime("%Y-%m-%d"), **found})
    with log.open("a") as lines:
        lines.write(line + "\n")
    print(line, flush=True)


def arms(study):
    """A study's arms, with the slots of their initializers."""
    found, slots = {}, []
    for line in study.read_text().splitlines():
        if arm := re.match(r"\[arms\.([^].]*)\]$", line):
            slots = found[arm[1]] = []
        elif slot := re.match(r"initializers\.(\w+)", line):
            slots.append(slot[1])
    return found


def apart(arm, slots):
    """Options that put an arm's strategy and initializers into processes of their own."""
    plugins = ["strategy", *(f"initializers.{slot}" for slot in slots)]
    return [option for plugin in plugins for option in ("--set", f'arms.{arm}.{plugin}.isolation="process"')]
