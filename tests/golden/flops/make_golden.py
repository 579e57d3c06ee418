"""What torch.utils.flop_counter counts of a step of GPT-2, for host/engine/src/flops.rs.

    python make_golden.py > golden.json       (PyTorch 2.15.0 made the file that is here)

Five scopes: everything trains; the paper's phase 1 (old blocks frozen, embeddings train, so that gradients cross them); old blocks
and embeddings frozen (gradients stop above them); two blocks in the middle alone; embeddings and final norm alone.
The counter counts matrix products: `products` are those with weights, `attention` those of scores and values. It knows no
mask: of attention it counts all T * T pairs, where the causal ones are T (T + 1) / 2. It counts no elementwise work, so
that AdamW is in neither.
"""

import json

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

LAYERS, WIDTH, HEADS, CONTEXT, VOCABULARY, SEQUENCES = 4, 48, 3, 20, 97, 3

SCOPES = {
    "everything": {"blocks": [0, 1, 2, 3], "embeddings": True, "final_norm": True},
    "paper's phase 1": {"blocks": [2, 3], "embeddings": True, "final_norm": True},
    "all below frozen": {"blocks": [2, 3], "embeddings": False, "final_norm": True},
    "the middle alone": {"blocks": [1, 2], "embeddings": False, "final_norm": False},
    "no block": {"blocks": [], "embeddings": True, "final_norm": True},
}


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.c_attn, self.attn_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.c_fc, self.mlp_proj = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (part.view(b, t, HEADS, WIDTH // HEADS).transpose(1, 2)
                   for part in self.c_attn(self.ln_1(x)).split(WIDTH, dim=-1))
        # Written out, so that scores and values are products of their own to the counter.
        scores = (q @ k.transpose(-2, -1)) / (WIDTH // HEADS) ** 0.5
        scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), float("-inf"))
        attended = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, WIDTH)
        x = x + self.attn_proj(attended)
        return x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh"))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(VOCABULARY, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.ln_f = nn.LayerNorm(WIDTH)

    def forward(self, tokens):
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.ln_f(x) @ self.wte.weight.T


def counted(scope):
    torch.manual_seed(0)
    model = Model()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    trains = [model.blocks[i] for i in scope["blocks"]]
    trains += [model.wte, model.wpe] if scope["embeddings"] else []
    trains += [model.ln_f] if scope["final_norm"] else []
    for module in trains:
        module.requires_grad_(True)
    tokens = torch.randint(VOCABULARY, (SEQUENCES, CONTEXT))
    targets = torch.randint(VOCABULARY, (SEQUENCES, CONTEXT))
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()
    by_operation = {str(op): flops for op, flops in counter.get_flop_counts()["Global"].items()}
    attention = by_operation.pop("aten.bmm")
    assert set(by_operation) <= {"aten.mm", "aten.addmm"}, by_operation
    return {"products": sum(by_operation.values()), "attention": attention}


model = {"layers": LAYERS, "width": WIDTH, "heads": HEADS, "context": CONTEXT, "vocabulary": VOCABULARY}
scopes = [{"name": name, **scope, **counted(scope)} for name, scope in SCOPES.items()]
print(json.dumps({"torch": torch.__version__, "model": model, "sequences": SEQUENCES, "scopes": scopes}, indent=1))
