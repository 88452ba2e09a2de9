"""A GPT-2 of the same shape in PyTorch, as nanoGPT writes it: python fit_torch.py eager|compile SIZES THREADS"""
import sys
import time

import fitting
import torch
from serving import serve
from torch import nn
from torch.nn import functional

mode, sizes, threads = sys.argv[1], fitting.read_sizes(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(threads)
torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        width = sizes.width
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        query, key, value = (part.view(batch, length, sizes.heads, width // sizes.heads).transpose(1, 2)
                             for part in self.query_key_value(self.attention_norm(x)).split(width, dim=2))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)  # (B, H, T, D)
        x = x + self.output(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(functional.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh"))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.positions = nn.Embedding(sizes.block, sizes.width)
        self.blocks = nn.ModuleList(Block() for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width)

    def forward(self, token_ids, targets):
        x = self.tokens(token_ids) + self.positions.weight[:token_ids.shape[1]]
        for block in self.blocks:
            x = block(x)
        logits = self.norm(x) @ self.tokens.weight.T
        return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


model = Decoder()
parameters = sum(weight.numel() for weight in model.parameters())
step_model = torch.compile(model) if mode == "compile" else model
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
inputs, targets = (torch.from_numpy(array).long() for array in fitting.windows(sizes))


def measure():
    start = time.perf_counter()
    for first in range(0, len(inputs), sizes.batch):
        optimizer.zero_grad(set_to_none=True)
        step_model(inputs[first:first + sizes.batch], targets[first:first + sizes.batch]).backward()
        optimizer.step()
    return {"tokens_per_second": sizes.tokens / (time.perf_counter() - start)}


measure()
serve("peers", ["torch", "numpy"], measure, parameters=parameters)
