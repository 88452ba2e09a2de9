"""transformers' Longformer, or BERT with full attention, on texts of several lengths: python read_long_peers.py SPEC"""
import json
import sys
import time

import torch
import transformers
from serving import serve

spec = json.loads(sys.argv[1])
torch.set_num_threads(spec["threads"])
torch.manual_seed(0)
sizes = {"max_position_embeddings": max(spec["lengths"]) + 2, "vocab_size": 50265, "pad_token_id": 1}
if spec["toy"]:
    sizes |= {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
if spec["kind"] == "longformer":
    model = transformers.LongformerModel(transformers.LongformerConfig(
        attention_window=32 if spec["toy"] else 512, **sizes)).eval()
else:
    model = transformers.BertModel(transformers.BertConfig(**sizes, attn_implementation="sdpa")).eval()


def inputs(length):
    ids = torch.randint(5, 50000, (1, length))
    if spec["kind"] != "longformer":
        return {"input_ids": ids}
    return {"input_ids": ids, "global_attention_mask": (torch.arange(length)[None] == 0).long()}


texts = {length: inputs(length) for length in spec["lengths"]}


def measure():
    seconds = {}
    with torch.inference_mode():
        for length, text in texts.items():
            begin = time.perf_counter()
            model(**text)
            seconds[str(length)] = time.perf_counter() - begin
    return seconds


measure()
serve("peers", ["torch", "transformers"], measure)
