#!/usr/bin/env python3
"""A tiny random GPT-2 written by transformers, with its logits in f64: tests/golden/hugging_face/model.

    python make_golden.py OUT_DIR

Every tensor is random and large, so that a lost bias, a turned matrix or another GELU shows. Depth 3, odd on purpose.
"""
import json, sys, torch, transformers
from transformers import GPT2Config, GPT2LMHeadModel

out = sys.argv[1]
torch.set_num_threads(1)
config = GPT2Config(n_layer=3, n_embd=32, n_head=4, vocab_size=64, n_positions=16, n_ctx=16, bos_token_id=None,
                    eos_token_id=None, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
model = GPT2LMHeadModel._from_config(config, attn_implementation="eager").eval()
g = torch.Generator().manual_seed(11)
with torch.no_grad():
    for name, p in model.named_parameters():
        gain = ".ln_" in name and name.endswith("weight")
        p.normal_(1.0 if gain else 0.0, 0.2 if gain or "bias" not in name else 0.1, generator=g)
model.save_pretrained(out)
ids = [7, 1, 63, 0, 33, 33, 12, 5, 41, 62, 2]
with torch.no_grad():
    logits = model.double()(torch.tensor([ids])).logits[0]
with open(out + "/expected.json", "w") as f:
    json.dump({"transformers": transformers.__version__, "ids": ids,
               "logits": [[round(x, 7) for x in row] for row in logits.tolist()]}, f)
