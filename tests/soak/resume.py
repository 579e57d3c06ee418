#!/usr/bin/env python3
"""Stopped again and again, every shipped strategy ends in the bytes of a run that was left alone: on both engines, in process and
isolated.

    tests/soak/resume.py [--engines native burn] [--arms NAME …] [--stops 5] [--steps 60] [--log tests/soak/log.jsonl]

Needs `cargo build --release --workspace`. `sapwood verify-resume` of configs/methods.toml and more-methods.toml here, an arm at a time, so that it can be ended
and gone on with: what the log has of the same binary is not done again. A line for each arm is added to the log.
"""

import hashlib
import re
import subprocess
import sys
import time

from proof import ROOT, SAPWOOD, apart, arguments, arms, logged, note

STUDIES = [ROOT / "configs/methods.toml", ROOT / "tests/soak/more-methods.toml"]


def every_arm():
    """Each once, with its study and the slots of its initializers."""
    found = {}
    for study in STUDIES:
        for arm, slots in arms(study).items():
            found.setdefault(arm, (study, slots))
    return found


def main():
    parser = arguments(__doc__)
    parser.add_argument("--engines", nargs="+", default=["native", "burn"], choices=["native", "burn"])
    parser.add_argument("--arms", nargs="+", default=list(every_arm()), choices=list(every_arm()))
    parser.add_argument("--stops", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60)
    args = parser.parse_args()
    binary = hashlib.sha256(SAPWOOD.read_bytes()).hexdigest()[:16]
    done = {(line["arm"], line["engine"], line["isolated"]) for line in logged(args.log)
            if line["proof"] == "resume" and line["binary"] == binary and line["stops_asked"] == args.stops
            and (line["same"] or "refused" in line)}
    wrong = []
    for engine in args.engines:
        for isolated in (False, True):
            for arm, (study, slots) in every_arm().items():
                if arm not in args.arms or (arm, engine, isolated) in done:
                    continue
                begun = time.monotonic()
                ran = subprocess.run(
                    [SAPWOOD, "verify-resume", study, "--arm", arm, "--engine", engine, "--stops", str(args.stops),
                     "--set", f"budget.steps={args.steps}", *(apart(arm, slots) if isolated else [])],
                    capture_output=True, text=True, cwd=ROOT)
                told = re.search(r"stopped (\d+) times \(before steps ([^)]*)\)", ran.stdout)
                same = ran.returncode == 0 and "every byte the same" in ran.stdout
                # What an engine cannot do it says before the first step.
                refused = ran.stderr.splitlines()[0] if ran.returncode == 3 and f"the engine `{engine}`" in ran.stderr else None
                found = {"binary": binary, "arm": arm, "engine": engine, "isolated": isolated, "stops_asked": args.stops, "stopped": int(told[1]) if told else 0,
                         "before_steps": told[2] if told else "", "seconds": round(time.monotonic() - begun, 1), "same": same, **({"refused": refused} if refused else {})}
                note(args.log, "resume", found)
                if not same and not refused:
                    wrong.append(f"{arm} on {engine}")
                    print(ran.stdout + ran.stderr, file=sys.stderr)
    print("differ: " + ", ".join(wrong) if wrong else "every byte the same")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
