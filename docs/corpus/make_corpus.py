"""English prose out of the documentation that Debian ships, one document a line, for `sapwood data tokenize`.

    python3 make_corpus.py WORK_DIR CORPUS.jsonl [--packages FILE]

Needs a Debian with `apt-get` (run `apt-get update` before) and `dpkg-deb`, and nothing that Python does not bring along.
Packages are fetched into WORK_DIR (some 0.3 GB) and read where they lie: none is installed, no script of theirs runs. The
same packages give the same file. The texts keep their licences: make the corpus, do not pass it on.
"""

import argparse
import gzip
import hashlib
import html
import json
import pathlib
import re
import subprocess
import sys
import tarfile

PACKAGES = """
debian-handbook debian-reference-en debian-policy developers-reference installation-guide-amd64 anarchism fortunes
dict-gcide dict-foldoc dict-jargon gnome-user-docs gimp-help-en libreoffice-help-en-us crawl-common nethack-common
manpages manpages-dev freebsd-manpages perl-doc git-doc zsh-doc postgresql-doc sqlite3-doc apache2-doc postfix-doc
python3-doc python-django-doc python-sqlalchemy-doc python-sympy-doc ghc-doc racket-doc rust-doc octave-doc maxima-doc
r-doc-html gap-doc lilypond-doc-html cmake-doc
""".split()
MOST_BYTES_OF_A_PACKAGE = 12_000_000
DOCUMENT_CHARACTERS = (400, 20_000)
COMMON = frozenset(
    "the of and to a in is that it for as with was on be by this are or not from at which an you have if can but they "
    "will has all one their when we his he i there been more would what so were no its may use your".split()
)
LEFT_OUT = re.compile(r"(?is)<(script|style|pre|nav|head|footer|svg|math|table)\b.*?</\1\s*>|<!--.*?-->")
BLOCK = re.compile(r"(?i)</?(p|div|li|ul|ol|dl|dt|dd|h[1-6]|br|hr|section|title|para|blockquote|item|note|page)\b[^>]*>")
TAG = re.compile(r"<[^<>]{0,2000}>")
WORD = re.compile(r"[A-Za-z']+")


def paragraphs_of(name, content):
    """The paragraphs of a file, by what its name says that it is."""
    name = name.lower()
    if name.endswith((".gz", ".dz")):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError):
            return []
        name = name[:-3]
    if b"\0" in content[:4096] or re.search(r"changelog|copyright|genindex|searchindex|_sources", name):
        return []
    text = content.decode("utf-8", "replace")
    if name.endswith((".html", ".htm", ".xhtml", ".page", ".xhp")):
        return html.unescape(TAG.sub("", BLOCK.sub("\0", LEFT_OUT.sub("\0", text)))).split("\0")
    if "/man/man" in name:
        lines = [re.sub(r"\\f.|\\-|\\&", lambda found: "-" if found[0] == r"\-" else "", line) for line in text.split("\n")]
        return "\n".join("" if line.startswith((".", "'")) else line for line in lines).split("\n\n")
    if name.endswith((".txt", ".rst", ".md", ".dict", ".info", ".pod", ".des")) or "/games/fortunes/" in name:
        return re.split(r"\n\s*\n|\n%\n", text)
    return []


def prose(paragraph):
    """The paragraph with single spaces, or None where it does not read like English."""
    paragraph = " ".join(paragraph.split())
    words = WORD.findall(paragraph)
    letters = sum(map(len, words))
    if len(words) < 12 or letters < 0.74 * len(paragraph) or len(paragraph) > 20_000:
        return None
    common = sum(word.lower() in COMMON for word in words)
    return paragraph if common >= 0.22 * len(words) and 3 <= letters / len(words) <= 7.5 else None


def documents_of(archive, seen):
    """A package's documents: prose of each file that no file before it had."""
    unpacked = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE)
    files = {}
    with tarfile.open(fileobj=unpacked.stdout, mode="r|") as members:
        for member in members:
            if member.isfile() and member.size < 100_000_000:
                kept = filter(None, map(prose, paragraphs_of(member.name, members.extractfile(member).read())))
                files[member.name] = list(kept)
    unpacked.wait()
    taken = 0
    for name in sorted(files, key=lambda name: hashlib.sha256(name.encode()).digest()):
        piece = []
        for paragraph in files[name] + [None]:
            if paragraph is None or sum(map(len, piece)) > DOCUMENT_CHARACTERS[1]:
                document = "\n\n".join(piece)
                if len(document) >= DOCUMENT_CHARACTERS[0] and taken < MOST_BYTES_OF_A_PACKAGE:
                    taken += len(document)
                    yield document
                piece = []
            key = paragraph and hashlib.sha256(paragraph.lower().encode()).digest()
            if paragraph and key not in seen:
                seen.add(key)
                piece.append(paragraph)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work_dir", type=pathlib.Path)
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--packages", type=pathlib.Path, help="names of other packages, in a file")
    arguments = parser.parse_args()
    packages = arguments.packages.read_text().split() if arguments.packages else PACKAGES
    arguments.work_dir.mkdir(parents=True, exist_ok=True)
    seen, documents = set(), []
    for package in packages:
        there = lambda: sorted(arguments.work_dir.glob(f"{package}_*.deb"))
        if not there():
            fetch = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", package]
            subprocess.run(fetch, cwd=arguments.work_dir, check=False)
        if not there():
            print(f"{package} is not to be had, and left out", file=sys.stderr)
            continue
        before = len(documents)
        documents += documents_of(there()[-1], seen)
        print(f"{package:<26} {len(documents) - before:>6} documents", flush=True)
    # In an order that has nothing to do with where they come from, so that a run without shuffling reads a mixture.
    documents.sort(key=lambda document: hashlib.sha256(document.encode()).digest())
    partial = arguments.corpus.with_suffix(".partial")
    partial.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    partial.rename(arguments.corpus)
    print(f"{len(documents)} documents, {sum(map(len, documents)) / 1e6:.1f} million characters in {arguments.corpus}")


main()
