#!/usr/bin/env python3
"""Multiple choice and LAMBADA by an independent implementation: transformers' forward pass in f64, each ending a sequence of
its own behind its whole context, nothing shared. Compares every item's choice with those that `sapwood eval --items` wrote.

    python choices.py HF_DIR SUITE.jsonl ITEMS.jsonl [--kind lambada] [--ranks r50k_base.tiktoken]
    python choices.py HF_DIR SUITE.jsonl EXPECTED.jsonl --write     # what tests/evaluations.rs compares with

Texts are bytes; with --ranks they are GPT-2's tokens, by PyPI's tiktoken from that file of ranks (OpenAI publishes it; the crate
tiktoken-rs carries it in its `assets`). Sequences of similar length go through the model together, padded behind their ends,
where a causal model does not look: HellaSwag's 40,168 took 19 minutes of one core with a model of 3 blocks, 96 wide.

choices.jsonl here are random ids for tests/golden/hugging_face/model: contexts that fit and ones that are too long.
"""
import argparse, json, sys, torch
from transformers import GPT2LMHeadModel

parser = argparse.ArgumentParser()
parser.add_argument("folder"), parser.add_argument("suite"), parser.add_argument("items")
parser.add_argument("--kind", choices=["multiple-choice", "lambada"], default="multiple-choice")
parser.add_argument("--ranks")
parser.add_argument("--write", action="store_true")
args = parser.parse_args()
model = GPT2LMHeadModel.from_pretrained(args.folder, attn_implementation="eager").eval().double()
T = model.config.n_positions
encode = lambda text: list(text.encode())
if args.ranks:
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe
    pattern = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
    gpt2 = tiktoken.Encoding("gpt2", pat_str=pattern, mergeable_ranks=load_tiktoken_bpe(args.ranks), special_tokens={})
    encode = gpt2.encode_ordinary
ids = lambda said, before="": said if isinstance(said, list) else encode(before + said)


def scores(sequences):
    """Of each (context, ending, longest ending of its item): the sum of log-likelihoods, whether it is greedy."""
    cut = [(context[max(0, len(context) + longest - 1 - T):], ending) for context, ending, longest in sequences]
    order = sorted(range(len(cut)), key=lambda i: len(cut[i][0]) + len(cut[i][1]))
    found = [None] * len(cut)
    with torch.no_grad():
        for first in range(0, len(order), 32):
            batch = order[first:first + 32]
            rows = [cut[i][0] + cut[i][1][:-1] for i in batch]
            padded = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
            for row, tokens in zip(padded, rows):
                row[:len(tokens)] = torch.tensor(tokens)
            hidden = model.transformer(padded, use_cache=False).last_hidden_state
            for i, row, tokens in zip(batch, hidden, rows):
                target = torch.tensor(cut[i][1])
                logits = model.lm_head(row[len(cut[i][0]) - 1:len(tokens)])
                sum_ = logits.log_softmax(-1).gather(1, target[:, None]).sum().item()
                found[i] = sum_, bool((logits.argmax(-1) == target).all())
    return found


argmax = lambda xs: max(range(len(xs)), key=lambda i: xs[i])
lines = [(n, json.loads(l)) for n, l in enumerate(open(args.suite), 1) if l.strip()]
if args.kind == "lambada":
    split = [line["text"].rstrip().rsplit(None, 1) for _, line in lines]
    sequences = [(ids(context.rstrip()), ids(word, " ")) for context, word in split]
    found = [[score] for score in scores([(context, word, len(word)) for context, word in sequences])]
    endings = [[word] for _, word in sequences]
else:
    endings = [[ids(e, " ") for e in line["endings"]] for _, line in lines]
    flat = [(ids(line["ctx"]), e, max(map(len, es))) for (_, line), es in zip(lines, endings) for e in es]
    flat = iter(scores(flat))
    found = [[next(flat) for _ in es] for es in endings]

if args.write:
    with open(args.items, "w") as out:
        for (n, line), es, score in zip(lines, endings, found):
            ll = [s for s, _ in score]
            out.write(json.dumps({"line": n, "label": line["label"], "choice": argmax(ll), "choice_norm_tokens": argmax(
                [s / len(e) for s, e in zip(ll, es)]), "log_likelihoods": [round(s, 6) for s in ll]}) + "\n")
    sys.exit()

ours = [json.loads(l) for l in open(args.items)]
assert [n for n, _ in lines] == [o["line"] for o in ours], "not the same items"
differ, worst, nearest, right = [], 0.0, float("inf"), {"acc": 0, "acc_norm_tokens": 0, "acc_norm_bytes": 0}
for (n, line), es, score, our in zip(lines, endings, found, ours):
    ll = [s for s, _ in score]
    if args.kind == "lambada":
        worst = max(worst, abs(ll[0] - our["log_likelihood"]))
        right["acc"] += score[0][1]
        if score[0][1] != our["is_right"]:
            differ.append((n, "acc"))
        continue
    worst = max(worst, max(abs(a - b) for a, b in zip(ll, our["log_likelihoods"])))
    by = {"acc": (ll, our["choice"]), "acc_norm_tokens": ([s / len(e) for s, e in zip(ll, es)], our["choice_norm_tokens"])}
    if all(isinstance(e, str) for e in line["endings"]):
        by["acc_norm_bytes"] = [s / len(e.encode()) for s, e in zip(ll, line["endings"])], our["choice_norm_bytes"]
    for name, (values, choice) in by.items():
        right[name] += argmax(values) == line["label"]
        best, second = sorted(values, reverse=True)[:2]
        nearest = min(nearest, best - second)
        if argmax(values) != choice:
            differ.append((n, name, f"best two apart by {best - second:.1e}"))
print(f"{len(lines)} items, {len(differ)} other choices {differ[:10]}, largest difference of a log-likelihood {worst:.2e}")
if nearest < float("inf"):
    print(f"the nearest two of all choices are {nearest:.1e} apart")
print({name: round(count / len(lines), 6) for name, count in right.items()})
sys.exit(bool(differ))
