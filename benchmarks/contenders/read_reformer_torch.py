"""The same in transformers: python read_reformer_torch.py SPEC"""
import json
import sys
import time

import torch
import transformers
from serving import serve

spec = json.loads(sys.argv[1])
torch.set_num_threads(spec["threads"])
torch.manual_seed(0)
model = transformers.ReformerModelWithLMHead(transformers.ReformerConfig(
    vocab_size=spec["vocabulary"], attn_layers=["local", "lsh"] * (spec["layers"] // 2),
    num_attention_heads=spec["heads"], attention_head_size=spec["head_dim"], hidden_size=spec["width"],
    feed_forward_size=spec["inner"], max_position_embeddings=spec["axes"][0] * spec["axes"][1],
    num_hashes=spec["rounds"], num_buckets=spec["buckets"], lsh_attn_chunk_length=spec["chunk"],
    local_attn_chunk_length=spec["chunk"], axial_pos_shape=spec["axes"], axial_pos_embds_dim=spec["dims"],
    is_decoder=True)).eval()
ids = torch.randint(0, spec["vocabulary"], (1, spec["length"]))


def measure():
    start = time.perf_counter()
    with torch.inference_mode():
        model(ids)
    return {"seconds": time.perf_counter() - start}


for _ in range(2):
    measure()
serve("peers' environment", ["torch", "transformers"], measure)
