"""Greedy translation by others: python translate_peers.py torch|optimum|float32|int8 CHECKPOINT FOLDER SPEC

"float32" and "int8" are CTranslate2's. What has to be converted goes into FOLDER.
"""
import json
import pathlib
import sys

import torch
from generating import by_generate, open_optimum, serve_tokens
from transformers import MarianMTModel

kind, checkpoint, folder, spec = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(spec["threads"])
sources, new_tokens = spec["sources"], spec["new_tokens"]
NO_END = {"forced_eos_token_id": None, "num_beams": 1}


def by_torch():
    return by_generate(MarianMTModel.from_pretrained(checkpoint).eval(), sources, new_tokens, **NO_END)


def by_optimum():
    from optimum.onnxruntime import ORTModelForSeq2SeqLM

    return by_generate(open_optimum(ORTModelForSeq2SeqLM, checkpoint, folder, spec["threads"]), sources, new_tokens,
                       **NO_END)


def by_ctranslate2():
    import ctranslate2

    if not folder.exists():
        _convert_to_ctranslate2()
    translator = ctranslate2.Translator(str(folder), device="cpu", intra_threads=spec["threads"], compute_type=kind)
    tokens = [[f"t{each}" for each in source] for source in sources]

    def run():
        found = translator.translate_batch(tokens, beam_size=1, max_decoding_length=new_tokens,
                                           min_decoding_length=new_tokens)
        return [[int(token[1:]) for token in each.hypotheses[0]] for each in found]
    return run


def _convert_to_ctranslate2():
    """Its converter wants a tokenizer, which random weights have none of; the loader behind it does not."""
    from ctranslate2.converters import transformers as converters

    model = MarianMTModel.from_pretrained(checkpoint)
    config, loader = model.config, converters.MarianMTLoader()
    config.normalize_before = config.normalize_embedding = False
    loader._config = config
    made = converters.BartLoader.get_model_spec(loader, model)
    made.decoder.start_from_zero_embedding = False  # trained files have zeros for the id that targets start from
    tokens = [f"t{each}" for each in range(config.vocab_size)]
    made.register_source_vocabulary(tokens)
    made.register_target_vocabulary(tokens)
    made.config.decoder_start_token = made.config.bos_token = tokens[config.decoder_start_token_id]
    made.config.eos_token, made.config.unk_token = tokens[config.eos_token_id], "t1"
    made.validate()
    made.optimize(quantization=None if kind == "float32" else kind)
    folder.mkdir(parents=True)
    made.save(str(folder))


serve_tokens(kind, {"torch": by_torch, "optimum": by_optimum}.get(kind, by_ctranslate2)(), new_tokens)
