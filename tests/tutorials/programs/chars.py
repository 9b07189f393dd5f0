"""A small GPT that reads Python's own manual, character by character."""

import json
import math
import os
from dataclasses import dataclass
from pydoc_data.topics import topics

import torch
import torch.distributed as dist
import torch.nn as nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel as DDP


@dataclass
class GPTConfig:
    block_size: int = 32
    vocab_size: int = 65
    n_layer: int = 2
    n_head: int = 2
    n_embd: int = 48
    dropout: float = 0.1


class CausalSelfAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.n_head = config.n_head
        self.dropout = config.dropout

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = (
            one.view(B, T, self.n_head, C // self.n_head).transpose(1, 2)
            for one in self.c_attn(x).split(C, dim=2)
        )
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return self.c_proj(y.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd),
            nn.GELU(),
            nn.Linear(4 * config.n_embd, config.n_embd),
            nn.Dropout(config.dropout),
        )

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.blocks = nn.Sequential(*[Block(config) for _ in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.wte.weight = self.lm_head.weight

    def forward(self, idx, targets):
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1]))
        logits = self.lm_head(self.ln_f(self.blocks(x)))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


dist.init_process_group(backend=os.environ.get("BACKEND", "gloo"))
rank = dist.get_rank()
torch.manual_seed(1337 + rank)

text = "".join(topics[key] for key in sorted(topics))[:200_000]
chars = sorted(set(text))
stoi = {ch: i for i, ch in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
n = int(0.9 * len(data))
splits = {"train": data[:n], "val": data[n:]}
config = GPTConfig(vocab_size=len(chars))


def get_batch(split, batch_size=16):
    part = splits[split]
    ix = torch.randint(len(part) - config.block_size, (batch_size,))
    x = torch.stack([part[i : i + config.block_size] for i in ix])
    y = torch.stack([part[i + 1 : i + 1 + config.block_size] for i in ix])
    return x, y


def get_lr(it, warmup=10, steps=80, lr=3e-3):
    if it < warmup:
        return lr * (it + 1) / warmup
    return lr * 0.5 * (1.0 + math.cos(math.pi * it / steps))


@torch.no_grad()
def estimate_loss():
    model.eval()
    out = {split: sum(model(*get_batch(split)).item() for _ in range(5)) / 5 for split in splits}
    model.train()
    return out


model = DDP(GPT(config))
optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
for iter_num in range(80):
    for group in optimizer.param_groups:
        group["lr"] = get_lr(iter_num)
    loss = model(*get_batch("train"))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    if iter_num % 20 == 0 and rank == 0:
        print(f"iter {iter_num}: loss {loss.item():.4f}")

losses = estimate_loss()
if rank == 0:
    print(json.dumps({"loss": loss.item(), **losses}))
dist.destroy_process_group()
