#!/usr/bin/env python3
"""Every fuzz target for a while, each from the seed on that an earlier go has come to.

    tests/soak/fuzz.py [--minutes 15] [--side-by-side 2] [--targets NAME …] [--log tests/soak/log.jsonl]

Builds the tests, and runs each target for so many minutes. A line for each is added to the log: so many cases up to that seed, or
the seed that was found (kept with its test once it is mended).
"""

import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proof import ROOT, arguments, logged, note

# By name: the package, its test binary, the test in it.
TARGETS = {
    "studies": ("study", "fuzz", "a_study_is_read_or_refused"),
    "plans": ("sapwood", "it", "study_files::a_study_is_planned_or_refused"),
    "token-files": ("data", "fuzz", "token_files::"),
    "texts": ("data", "fuzz", "texts::"),
    "tokenizers": ("data", "fuzz", "tokenizers::"),
    "suites": ("inference", "fuzz", "whatever_lies_in_a_suite"),
    "checkpoints": ("trainer", "it", "damaged::whatever_lies_in_a_checkpoint"),
    "hugging-face": ("trainer", "it", "damaged::whatever_lies_in_a_folder_of_hugging_face"),
    "libraries": ("plugin-host", "fuzz", "whatever_lies_in_a_plugin_folder"),
    "packs": ("plugin-host", "fuzz", "whatever_lies_in_a_pack"),
    "locks": ("plugin-host", "fuzz", "whatever_lies_in_a_lock"),
    "plugin-answers": ("trainer", "it", "fuzz::whatever_a_plugin_answers"),
}


def binaries():
    """Test binaries by package and name, and where each package lies; built like all tests, so that nothing is built twice."""
    build = ["cargo", "test", "--release", "--workspace", "--no-run", "--message-format=json"]
    told = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    found = {}
    for line in told.stdout.splitlines():
        message = json.loads(line)
        if message.get("reason") == "compiler-artifact" and message["executable"] and "test" in message["target"]["kind"]:
            folder = Path(message["manifest_path"]).parent
            package = re.search(r"([\w-]+)@|([\w-]+)#[\d.]+$", message["package_id"])
            found[package[1] or package[2], message["target"]["name"]] = (message["executable"], folder)
    return found


def main():
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--targets", nargs="+", choices=TARGETS, default=list(TARGETS))
    args = parser.parse_args()
    reached = {line["target"]: line["last_seed"] for line in logged(args.log) if line["proof"] == "fuzz" and "last_seed" in line}
    built = binaries()

    def fuzz(target):
        package, binary, test = TARGETS[target]
        executable, folder = built[package, binary]
        first = reached.get(target, 0) + 1
        environment = {**os.environ, "SAPWOOD_FUZZ_SECONDS": str(int(60 * args.minutes)), "SAPWOOD_FUZZ_FIRST": str(first),
                       "RUST_BACKTRACE": "0"}
        begun = time.monotonic()
        ran = subprocess.run([executable, test, "--nocapture"], cwd=folder, env=environment, capture_output=True, text=True)
        line = {"target": target, "first_seed": first, "seconds": round(time.monotonic() - begun)}
        if told := re.search(r": (\d+) cases up to seed (\d+), .* at most (\d+) MiB, no finding", ran.stdout):
            line |= {"cases": int(told[1]), "last_seed": int(told[2]), "most_mib": int(told[3])}
        else:
            line["finding"] = (ran.stdout + ran.stderr)[-2000:]
        note(args.log, "fuzz", line)
        return "finding" not in line

    with ThreadPoolExecutor(args.side_by_side) as pool:
        good = list(pool.map(fuzz, args.targets))
    print("no finding" if all(good) else "there are findings: mend them, and keep their seeds")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
