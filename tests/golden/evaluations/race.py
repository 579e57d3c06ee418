#!/usr/bin/env python3
"""`sapwood eval` and `sapwood sample` in turn with PyTorch on the same model, the same texts, two threads each.

    python race.py HF_DIR SUITE.jsonl --ranks r50k_base.tiktoken [--sapwood target/release/sapwood] [--items 1000] [--rounds 3]

The peer is given what it does best: sequences sorted by length and padded, all in f32, the head on the endings' rows alone, its
imports and its loading of the model not counted. Of sapwood the whole process counts in `eval`; in `sample`, seconds of a short
text are taken off those of a long one. What is printed are medians, and their ratio: above 1 sapwood is the faster one.
"""
import argparse, json, os, statistics, subprocess, tempfile, time

parser = argparse.ArgumentParser()
parser.add_argument("folder"), parser.add_argument("suite")
parser.add_argument("--ranks", required=True)
parser.add_argument("--sapwood", default="target/release/sapwood")
parser.add_argument("--items", type=int, default=1000)
parser.add_argument("--rounds", type=int, default=3)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch", type=int, default=32)
args = parser.parse_args()
os.environ |= {name: str(args.threads) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
import tiktoken, torch
from tiktoken.load import load_tiktoken_bpe
from transformers import GPT2LMHeadModel

torch.set_num_threads(args.threads)
model = GPT2LMHeadModel.from_pretrained(args.folder).eval().float()
T = model.config.n_positions
pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
gpt2 = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=load_tiktoken_bpe(args.ranks), special_tokens={})
lines = [line for line in open(args.suite) if line.strip()][:args.items]
some = tempfile.NamedTemporaryFile("w", suffix=".jsonl")
some.writelines(lines), some.flush()


@torch.no_grad()
def peer_evaluates():
    sequences, scores = [], {}
    for number, line in enumerate(map(json.loads, lines)):
        context = gpt2.encode_ordinary(line["ctx"])
        endings = [gpt2.encode_ordinary(" " + ending) for ending in line["endings"]]
        kept = context[max(0, len(context) + max(map(len, endings)) - 1 - T):]
        sequences += [((number, place), kept, ending) for place, ending in enumerate(endings)]
    sequences.sort(key=lambda sequence: len(sequence[1]) + len(sequence[2]))
    for first in range(0, len(sequences), args.batch):
        batch = sequences[first:first + args.batch]
        rows = [torch.tensor(context + ending[:-1]) for _, context, ending in batch]
        hidden = model.transformer(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), use_cache=False)[0]
        wanted = [h[len(c) - 1:len(c) + len(e) - 1] for h, (_, c, e) in zip(hidden, batch)]
        targets = torch.tensor([token for _, _, ending in batch for token in ending])
        losses = torch.nn.functional.cross_entropy(model.lm_head(torch.cat(wanted)), targets, reduction="none")
        for (key, _, ending), loss in zip(batch, losses.split([len(ending) for _, _, ending in batch])):
            scores[key] = -loss.sum().item()
    labels = [json.loads(line)["label"] for line in lines]
    return sum(max(range(4), key=lambda place: scores[n, place]) == label for n, label in enumerate(labels)) / len(lines)


def sapwood_evaluates():
    command = [args.sapwood, "eval", args.folder, "--suite", some.name, "--kind", "multiple-choice", "--tokenizer", "gpt2", "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["acc"]["value"]


PROMPT, SHORT, LONG = "464 2068 7586 21831", 8, min(200, T - 8)


@torch.no_grad()
def peer_writes(tokens):
    prompt = torch.tensor([[int(token) for token in PROMPT.split()]])
    model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=True, top_k=0, use_cache=True, pad_token_id=0,
                   eos_token_id=None, min_new_tokens=tokens, max_new_tokens=tokens)


def sapwood_writes(tokens):
    command = [args.sapwood, "sample", args.folder, "--ids", "--prompt", PROMPT, "--tokens", str(tokens)]
    subprocess.run(command, check=True, capture_output=True)


def seconds(work, *of):
    begun = time.perf_counter()
    return work(*of), time.perf_counter() - begun


ours, theirs = [], []
for _ in range(args.rounds):
    (our, spent), (their, peers) = seconds(sapwood_evaluates), seconds(peer_evaluates)
    ours.append(spent), theirs.append(peers)
our_median, their_median = statistics.median(ours), statistics.median(theirs)
print(f"eval, {len(lines)} items: sapwood {our_median:.2f} s (acc {our}), PyTorch {their_median:.2f} s (acc {their}), "
      f"ratio {their_median / our_median:.2f}")
rate = lambda writes: (LONG - SHORT) / (seconds(writes, LONG)[1] - seconds(writes, SHORT)[1])
rates = [(rate(sapwood_writes), rate(peer_writes)) for _ in range(2 * args.rounds + 1)]
ours, theirs = (statistics.median(column) for column in zip(*rates))
print(f"sample, {LONG} tokens: sapwood {ours:.0f} tokens/s, transformers.generate {theirs:.0f} tokens/s, ratio {ours / theirs:.2f}")
