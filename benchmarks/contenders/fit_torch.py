"""The same model in plain PyTorch; argument 1: compiled."""
import sys

import shape
import torch
from torch import nn
from torch.nn import functional

torch.set_num_threads(2)
torch.manual_seed(0)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.LayerNorm(shape.WIDTH), nn.LayerNorm(shape.WIDTH)
        self.projection = nn.Linear(shape.WIDTH, 3 * shape.WIDTH)
        self.output = nn.Linear(shape.WIDTH, shape.WIDTH)
        self.up, self.down = nn.Linear(shape.WIDTH, 4 * shape.WIDTH), nn.Linear(4 * shape.WIDTH, shape.WIDTH)

    def forward(self, x):
        b, t, e = x.shape
        parts = self.projection(self.attention_norm(x)).split(e, 2)
        query, key, value = (part.view(b, t, shape.HEADS, -1).transpose(1, 2) for part in parts)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.output(mixed.transpose(1, 2).reshape(b, t, e))
        return x + self.down(functional.gelu(self.up(self.feed_forward_norm(x)), approximate="tanh"))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(shape.VOCABULARY, shape.WIDTH)
        self.positions = nn.Embedding(shape.LENGTH, shape.WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(shape.LAYERS))
        self.norm = nn.LayerNorm(shape.WIDTH)

    def forward(self, ids, targets):
        x = self.tokens(ids) + self.positions.weight
        for block in self.blocks:
            x = block(x)
        return functional.cross_entropy((self.norm(x) @ self.tokens.weight.T).flatten(0, 1), targets.flatten())


model = Decoder()
optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
step = torch.compile(model) if sys.argv[1] == "1" else model
inputs, targets = (torch.from_numpy(array).long() for array in shape.tokens())


def train(steps=shape.STEPS):
    for i in range(steps):
        rows = slice(i * shape.BATCH, (i + 1) * shape.BATCH)
        optimizer.zero_grad(set_to_none=True)
        step(inputs[rows], targets[rows]).backward()
        optimizer.step()


shape.report(train, lambda: train(5))
