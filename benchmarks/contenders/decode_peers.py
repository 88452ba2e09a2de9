"""Greedy decoding of a checkpoint by others: python decode_peers.py torch|optimum|float32|int8 CHECKPOINT FOLDER SPEC

"float32" and "int8" are CTranslate2's. What has to be converted goes into FOLDER.
"""
import json
import pathlib
import sys

import torch
from generating import by_generate, open_optimum, serve_tokens
from transformers import GPT2LMHeadModel

kind, checkpoint, folder, spec = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3]), json.loads(sys.argv[4])
torch.set_num_threads(spec["threads"])
prompt, new_tokens = spec["prompt"], spec["new_tokens"]


def by_torch():
    return by_generate(GPT2LMHeadModel.from_pretrained(checkpoint).eval(), [prompt], new_tokens, pad_token_id=0)


def by_optimum():
    from optimum.onnxruntime import ORTModelForCausalLM

    return by_generate(open_optimum(ORTModelForCausalLM, checkpoint, folder, spec["threads"]), [prompt], new_tokens,
                       pad_token_id=0)


def by_ctranslate2():
    import ctranslate2

    if not folder.exists():
        _convert_to_ctranslate2()
    generator = ctranslate2.Generator(str(folder), device="cpu", intra_threads=spec["threads"], compute_type=kind)
    tokens = [[f"t{each}" for each in prompt]]

    def run():
        found = generator.generate_batch(tokens, max_length=new_tokens, min_length=new_tokens, sampling_topk=1,
                                         include_prompt_in_result=False, end_token=[])
        return [found[0].sequences_ids[0][:new_tokens]]
    return run


def _convert_to_ctranslate2():
    """Its converter wants a tokenizer, which random weights have none of; the loader behind it does not."""
    from ctranslate2.converters import transformers as converters
    from ctranslate2.specs import transformer_spec

    model = GPT2LMHeadModel.from_pretrained(checkpoint)
    config, loader = model.config, converters.GPT2Loader()
    made = transformer_spec.TransformerDecoderModelSpec.from_config(
        config.n_layer, config.n_head, pre_norm=True,
        activation=converters._SUPPORTED_ACTIVATIONS[config.activation_function])
    loader.set_decoder(made.decoder, model.transformer)
    loader.set_linear(made.decoder.projection, model.lm_head)
    made.register_vocabulary([f"t{each}" for each in range(config.vocab_size)])
    made.config.unk_token, made.config.bos_token, made.config.eos_token = "t0", "t1", "t2"
    made.validate()
    made.optimize(quantization=None if kind == "float32" else kind)
    folder.mkdir(parents=True)
    made.save(str(folder))


serve_tokens(kind, {"torch": by_torch, "optimum": by_optimum}.get(kind, by_ctranslate2)(), new_tokens)
