#!/usr/bin/env python3
"""Loads folders that `sapwood export` wrote with transformers, and compares its logits with a forward pass of our own
in f64 over the very tensors of the checkpoint (gates and all), which knows nothing of transformers.

    python check_export.py CHECKPOINT HF_DIR [CHECKPOINT HF_DIR ...]
    python check_export.py --same HF_DIR EXPORTED      # after import and export: bit-identical tensors

CHECKPOINT is a folder with weights.safetensors and state.json below a run's folder. Exit code 1 where a logit is off by
more than 1e-4.
"""
import json, math, os, sys
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, GPT2LMHeadModel

LOGIT = 1e-4
# tiktoken's, of the text below.
GPT2_IDS = [39687, 416, 5858, 11, 38251, 198]


def forward(w, state, shape, ids):
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: len(ids)]
    norm = lambda x, n: torch.nn.functional.layer_norm(x, x.shape[-1:], w[n + ".weight"], w[n + ".bias"], shape["norm_epsilon"])
    linear = lambda x, n: x @ w[n + ".weight"] + w[n + ".bias"]
    heads, mask = shape["heads"], torch.full((len(ids), len(ids)), -math.inf).triu(1).double()
    for i, block in enumerate(state["blocks"]):
        n = f"transformer.h.{i}."
        gate_attention, gate_mlp = state.get("gates", {}).get(str(block["layer"]), [1.0, 1.0])
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(0, 1) for t in linear(norm(x, n + "ln_1"), n + "attn.c_attn").chunk(3, -1))
        p = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + mask).softmax(-1)
        x = x + gate_attention * linear((p @ v).transpose(0, 1).flatten(1), n + "attn.c_proj")
        h = linear(norm(x, n + "ln_2"), n + "mlp.c_fc")
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h ** 3)))
        x = x + gate_mlp * linear(h, n + "mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w["transformer.wte.weight"].T


def check(checkpoint, folder):
    state = json.load(open(os.path.join(checkpoint, "state.json")))
    shape = json.load(open(os.path.join(checkpoint, "../../run.json")))["config"]["model"]
    shape.update({k: v for k, v in state["widths"].items()})
    w = {k: v.double() for k, v in load_file(os.path.join(checkpoint, "weights.safetensors")).items()}
    model, info = GPT2LMHeadModel.from_pretrained(folder, output_loading_info=True, attn_implementation="eager")
    odd = {k: v for k, v in info.items() if v and k != "error_msgs"}
    worst = 0.0
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        ids = torch.randint(0, shape["vocabulary"], (min(shape["context"], 64),), generator=g)
        with torch.no_grad():
            theirs = model.eval()(ids[None]).logits[0].double()
        worst = max(worst, (theirs - forward(w, state, shape, ids)).abs().max().item())
    said = f"{folder}: {len(state['blocks'])} blocks, largest difference of a logit {worst:.2e}"
    if os.path.exists(os.path.join(folder, "tokenizer.json")):
        text = "Ring by ring, é\n"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        ids = tokenizer(text)["input_ids"]
        of_bytes = len(tokenizer) == 256
        assert ids == (list(text.encode()) if of_bytes else GPT2_IDS), ids
        said += ", tokenizer gives the bytes" if of_bytes else ", tokenizer gives GPT-2's ids"
    print(said, f", loading said {odd}" if odd else "")
    return worst <= LOGIT and not odd


def same(a, b):
    a, b = (load_file(os.path.join(x, "model.safetensors")) for x in (a, b))
    name = lambda n: "transformer." + n.removeprefix("transformer.")
    a = {name(k): v for k, v in a.items() if not k.endswith((".attn.bias", ".attn.masked_bias"))}
    good = a.keys() == b.keys() and all(torch.equal(a[k].view(torch.int32), b[k].view(torch.int32)) for k in a)
    print(f"{len(a)} tensors, bit-identical: {good}")
    return good


if sys.argv[1] == "--same":
    sys.exit(not same(*sys.argv[2:4]))
results = [check(*pair) for pair in zip(sys.argv[1::2], sys.argv[2::2])]
sys.exit(not all(results))
