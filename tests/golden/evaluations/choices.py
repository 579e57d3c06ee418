#!/usr/bin/env python3
"""Multiple choice and LAMBADA by an independent implementation: transformers' forward pass in f64, one sequence at a
time, nothing shared and nothing batched. Compares every item's choice with those that `sapwood eval --items` wrote.

    python choices.py HF_DIR SUITE.jsonl ITEMS.jsonl [multiple-choice|lambada]
    python choices.py HF_DIR SUITE.jsonl EXPECTED.jsonl write     # what tests/evaluations.rs compares with

choices.jsonl here are random ids for tests/golden/hugging_face/model: contexts that fit and ones that are too long.
"""
import json, sys, torch
from transformers import GPT2LMHeadModel

folder, suite, items = sys.argv[1:4]
kind = sys.argv[4] if len(sys.argv) > 4 else "multiple-choice"
model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").eval().double()
T = model.config.n_positions
ids = lambda said, before="": said if isinstance(said, list) else list((before + said).encode())


def score(context, ending, longest):
    context = context[max(0, len(context) + longest - 1 - T):]
    with torch.no_grad():
        logits = model(torch.tensor([context + ending[:-1]])).logits[0, len(context) - 1:]
    target = torch.tensor(ending)
    return logits.log_softmax(-1).gather(1, target[:, None]).sum().item(), bool((logits.argmax(-1) == target).all())


argmax = lambda xs: max(range(len(xs)), key=lambda i: xs[i])
lines = [(n, json.loads(l)) for n, l in enumerate(open(suite), 1) if l.strip()]
if kind == "write":
    with open(items, "w") as out:
        for n, line in lines:
            longest = max(map(len, line["endings"]))
            ll = [score(line["ctx"], e, longest)[0] for e in line["endings"]]
            out.write(json.dumps({"line": n, "label": line["label"], "choice": argmax(ll), "choice_norm_tokens": argmax(
                [s / len(e) for s, e in zip(ll, line["endings"])]), "log_likelihoods": [round(s, 6) for s in ll]}) + "\n")
    sys.exit()
ours = [json.loads(l) for l in open(items)]
assert [n for n, _ in lines] == [o["line"] for o in ours], "not the same items"
differ, worst, right = [], 0.0, {"acc": 0, "acc_norm_tokens": 0, "acc_norm_bytes": 0}
for (n, line), our in zip(lines, ours):
    if kind == "lambada":
        context, word = line["text"].rstrip().rsplit(None, 1)
        word = ids(word, " ")
        ll, greedy = score(ids(context.rstrip()), word, len(word))
        worst = max(worst, abs(ll - our["log_likelihood"]))
        right["acc"] += greedy
        if greedy != our["is_right"]:
            differ.append(n)
        continue
    endings = [ids(e, " ") for e in line["endings"]]
    longest = max(map(len, endings))
    ll = [score(ids(line["ctx"]), e, longest)[0] for e in endings]
    worst = max(worst, max(abs(a - b) for a, b in zip(ll, our["log_likelihoods"])))
    by = {"acc": argmax(ll), "acc_norm_tokens": argmax([s / len(e) for s, e in zip(ll, endings)])}
    found = {"acc": our["choice"], "acc_norm_tokens": our["choice_norm_tokens"]}
    if all(isinstance(e, str) for e in line["endings"]):
        by["acc_norm_bytes"] = argmax([s / len(e.encode()) for s, e in zip(ll, line["endings"])])
        found["acc_norm_bytes"] = our["choice_norm_bytes"]
    for name, choice in by.items():
        right[name] += choice == line["label"]
    if by != found:
        differ.append(n)
print(f"{len(lines)} items, {len(differ)} with another choice {differ[:10]}, largest difference of a log-likelihood {worst:.2e}")
print({name: round(count / len(lines), 6) for name, count in right.items()})
sys.exit(bool(differ))
