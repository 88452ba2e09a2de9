"""What the peers' programs that write token ids have in common. Needs torch."""
import time

import torch
from serving import serve


def by_generate(model, rows, new_tokens, **settings):
    """A function that runs Hugging Face's loop and returns the new ids of each row.

    Args:
        model: of transformers or Optimum.
        rows: lists of ids, equally long: prompts, or sources of an encoder-decoder.
        new_tokens: of each row, no fewer and no more.
        settings: for the model's generation config.
    """
    model.generation_config.update(eos_token_id=None, **settings)
    ids = torch.tensor(rows)
    mask = torch.ones_like(ids)

    def run():
        with torch.inference_mode():
            return model.generate(ids, attention_mask=mask, max_new_tokens=new_tokens, min_new_tokens=new_tokens,
                                  do_sample=False)[:, -new_tokens:].tolist()
    return run


def open_optimum(kind, checkpoint, folder, threads):
    """A model of Optimum's class `kind`, exported to `folder` if it is not there."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    if not folder.exists():
        kind.from_pretrained(checkpoint, export=True).save_pretrained(folder)
    return kind.from_pretrained(folder, session_options=settings)


def serve_tokens(kind, run, new_tokens):
    """Measure `run` whenever told, after a first time for free.

    Args:
        kind: "torch", "optimum", or a type of CTranslate2's.
        run: () -> lists of ids.
        new_tokens: of each list.
    """
    def measure():
        start = time.perf_counter()
        ids = run()
        seconds = time.perf_counter() - start
        return {"tokens_per_second": len(ids) * new_tokens / seconds, "ids": [[int(each) for each in row]
                                                                              for row in ids]}

    measure()
    serve("peers", {"torch": ["torch", "transformers"], "optimum": ["optimum-onnx", "onnxruntime"]}.get(
        kind, ["ctranslate2"]), measure)
