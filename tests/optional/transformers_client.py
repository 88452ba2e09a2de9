"""Open Hugging Face folders with transformers, compute logits and ids, save them again. The test beside it runs this.

    python transformers_client.py FOLDER...    # each with inputs.npz; adds outputs.npz, report.json and again/
"""
import json
import pathlib
import sys

import numpy as np
import torch
import transformers


def visit(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, output_loading_info=True, attn_implementation="eager", dtype=torch.float32)
    model.eval()
    with np.load(folder / "inputs.npz", allow_pickle=False) as file:
        token_ids, mask = torch.tensor(file["token_ids"], dtype=torch.long), torch.tensor(file["left_mask"])
    positions = (mask.long().cumsum(dim=1) - 1).clamp(min=0)
    with torch.no_grad():
        plain = model(input_ids=token_ids).logits
        padded = model(input_ids=token_ids, attention_mask=mask, position_ids=positions).logits
        ids = model.generate(token_ids, attention_mask=mask, max_new_tokens=7, do_sample=False, pad_token_id=0,
                             eos_token_id=None)
    np.savez(folder / "outputs.npz", plain=plain.numpy(), padded=padded.numpy(),
             greedy=ids[:, token_ids.shape[1]:].numpy())
    report = {name: sorted(map(str, info[name])) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    report.update(transformers=transformers.__version__, torch=torch.__version__, kind=type(model).__name__)
    (folder / "report.json").write_text(json.dumps(report))
    model.save_pretrained(folder / "again", max_shard_size="20KB")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        visit(pathlib.Path(name))
