"""The mean of the weights of fairseq's checkpoints, as one more: python average_fairseq.py OUT CHECKPOINT ..."""
import sys

import torch

out, *paths = sys.argv[1:]
state = torch.load(paths[-1], map_location="cpu")
weights = [torch.load(path, map_location="cpu")["model"] for path in paths]
for name, value in state["model"].items():
    if value.is_floating_point():
        state["model"][name] = torch.stack([each[name].double() for each in weights]).mean(dim=0).to(value.dtype)
torch.save(state, out)
