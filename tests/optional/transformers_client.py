"""Open Hugging Face folders with transformers, compute outputs and ids, save them again. The tests beside it run this.

    python transformers_client.py CLASS FOLDER...    # each with inputs.npz; adds outputs.npz, report.json and again/

CLASS is one of transformers' Auto classes. The folder of a translator holds searches.json, too: name -> options with
which it generates.
"""
import json
import logging
import pathlib
import sys

import numpy as np
import torch
import transformers

KEYS = ("missing_keys", "unexpected_keys", "mismatched_keys")


class Warnings(logging.Handler):
    """Keeps what transformers warns of."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        self.texts.append(record.getMessage())


def visit(name, folder):
    heard = Warnings()
    logging.getLogger("transformers").addHandler(heard)
    model, info = getattr(transformers, name).from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32)
    logging.getLogger("transformers").removeHandler(heard)
    model.eval()
    with np.load(folder / "inputs.npz", allow_pickle=False) as file:
        inputs = {name: torch.tensor(array, dtype=torch.long) for name, array in file.items()}
    with torch.no_grad():
        visitors = {"AutoModelForCausalLM": generating, "AutoModelForSeq2SeqLM": translating}
        outputs = (hashing if hasattr(model.config, "num_hashes") else visitors.get(name, encoding))(model, inputs)
        searches = folder / "searches.json"
        for search, options in json.loads(searches.read_text()).items() if searches.is_file() else ():
            outputs[search] = model.generate(inputs["encoder_token_ids"], attention_mask=inputs["encoder_padding_mask"],
                                             do_sample=False, **options)[:, 1:]
    np.savez(folder / "outputs.npz", **{name: each.numpy() for name, each in outputs.items()})
    report = {name: sorted(map(str, info[name])) for name in KEYS}
    report.update(transformers=transformers.__version__, torch=torch.__version__, kind=type(model).__name__,
                  warnings=heard.texts)
    (folder / "report.json").write_text(json.dumps(report))
    model.save_pretrained(folder / "again", max_shard_size="20KB")


def generating(model, inputs):
    token_ids, mask = inputs["token_ids"], inputs["left_mask"]
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    return {"plain": model(input_ids=token_ids).logits,
            "padded": model(input_ids=token_ids, attention_mask=mask, position_ids=positions).logits,
            "greedy": model.generate(token_ids, attention_mask=mask, max_new_tokens=7, do_sample=False, pad_token_id=0,
                                     eos_token_id=None)[:, token_ids.shape[1]:]}


def translating(model, inputs):
    source, mask, target = (inputs[name] for name in ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids"))
    return {"plain": model(input_ids=source, decoder_input_ids=target).logits,
            "padded": model(input_ids=source, attention_mask=mask, decoder_input_ids=target).logits}


def encoding(model, inputs):
    given = {"input_ids": inputs["token_ids"], "attention_mask": inputs["padding_mask"]}
    if "segment_ids" in inputs:
        given["token_type_ids"] = inputs["segment_ids"]
    result = model(**given)
    return {name: each for name, each in result.items() if isinstance(each, torch.Tensor)}


def hashing(model, inputs):
    """And the rotations, which `hash_seed` makes the same ones in every layer."""
    config = model.config
    buckets = config.num_buckets if isinstance(config.num_buckets, (list, tuple)) else [config.num_buckets]
    torch.manual_seed(config.hash_seed)
    rotations = torch.randn(config.num_attention_heads, config.attention_head_size, config.num_hashes,
                            sum(buckets) // 2)
    return {"rotations": rotations, **encoding(model, inputs)}


if __name__ == "__main__":
    for folder in sys.argv[2:]:
        visit(sys.argv[1], pathlib.Path(folder))
