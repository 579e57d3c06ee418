"""Some 10 MB of real text, made into tokens by `sapwood data tokenize` and by tiktoken: the same ids?

    python check_tiktoken.py SAPWOOD RANKS WORK_DIR

SAPWOOD is the binary, RANKS `r50k_base.tiktoken` (the crate tiktoken-rs has it in `assets`). Needs tiktoken, numpy, and a
Debian with apt-get and dpkg-deb (run `apt-get update` before): manual pages in English, Japanese and Chinese, names of
emoji in many languages, and source code are fetched as packages and unpacked, not installed. Their texts stay in
WORK_DIR, and so does `mixed.txt`, which `cargo bench -p data --bench tokenizers -- WORK_DIR/mixed.txt` times.
"""

import base64
import gzip
import hashlib
import json
import pathlib
import subprocess
import sys
import time

import numpy
import tiktoken

RANKS_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
# Package, what of it is taken, and how many bytes at most.
SOURCES = [
    ("manpages-dev", "usr/share/man/man*/*", 2_500_000),
    ("manpages-ja", "usr/share/man/ja/man*/*", 2_000_000),
    ("manpages-zh", "usr/share/man/zh_CN/man*/*", 1_500_000),
    ("unicode-cldr-core", "usr/share/unicode/cldr/common/annotations/*.xml", 2_500_000),
    ("linux-libc-dev", "usr/include/**/*.h", 1_000_000),
    ("libpython3.11-minimal", "usr/lib/python3*/**/*.py", 1_500_000),
]
FEWEST_BYTES = 10_000_000


def documents(work):
    """Texts of the packages, those that are UTF-8, in the order of their names."""
    for package, pattern, most in SOURCES:
        folder = work / package
        if not folder.exists():
            subprocess.run(["apt-get", "download", "-q", package], cwd=work, check=False)
            archives = sorted(work.glob(f"{package}_*.deb"))
            if not archives:
                print(f"{package} is not to be had", file=sys.stderr)
                continue
            subprocess.run(["dpkg-deb", "-x", archives[-1], folder], check=True)
        taken = 0
        for path in sorted(folder.glob(pattern)):
            if taken >= most or not path.is_file():
                continue
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            try:
                text = content.decode()
            except UnicodeDecodeError:
                continue
            # An empty text is no document.
            if text:
                taken += len(content)
                yield text
        print(f"{package:<24} {taken:>10} bytes")


def reference(ranks_path):
    ranks = ranks_path.read_bytes()
    assert hashlib.sha256(ranks).hexdigest() == RANKS_SHA256, "not the ranks of GPT-2"
    pairs = (line.split() for line in ranks.splitlines() if line)
    return tiktoken.Encoding(
        "gpt2",
        pat_str=PATTERN,
        mergeable_ranks={base64.b64decode(token): int(rank) for token, rank in pairs},
        special_tokens={"<|endoftext|>": 50256},
    )


def main():
    sapwood, ranks, work = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    work.mkdir(parents=True, exist_ok=True)
    texts = list(documents(work))
    size = sum(len(text.encode()) for text in texts)
    print(f"{len(texts)} texts, {size} bytes")
    if size < FEWEST_BYTES:
        sys.exit(f"these are fewer than {FEWEST_BYTES} bytes: widen SOURCES")
    (work / "mixed.txt").write_text("".join(texts))
    lines = work / "mixed.jsonl"
    lines.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    out = work / "tokens"
    subprocess.run(["rm", "-rf", out], check=True)
    command = [sapwood, "data", "tokenize", lines, "--tokenizer", "gpt2", "--validation", "0", "--out", out]
    subprocess.run(command, check=True)
    ours = numpy.concatenate([numpy.load(shard) for shard in sorted(out.glob("train_*.npy"))])

    encoding = reference(ranks)
    begun = time.perf_counter()
    theirs = []
    for text in texts:
        theirs.append(50256)
        theirs.extend(encoding.encode_ordinary(text))
    seconds = time.perf_counter() - begun
    print(f"tiktoken {tiktoken.__version__}: {size / 1e6 / seconds:.1f} MB/s on one core, its ids as Python's lists")

    theirs = numpy.array(theirs)
    if len(ours) != len(theirs) or (ours != theirs).any():
        least = min(len(ours), len(theirs))
        differ = numpy.nonzero(ours[:least] != theirs[:least])[0]
        place = int(differ[0]) if len(differ) else least
        sys.exit(f"{len(ours)} ids and {len(theirs)}: they part at {place}: {ours[place:place + 8]} {theirs[place:place + 8]}")
    print(f"{len(ours)} ids, all the same")


main()
