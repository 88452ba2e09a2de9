"""Hugging Face's torch model, Optimum's ONNX export, or CTranslate2 on a Hugging Face folder of GPT-2."""
import pathlib
import sys

import decode
import torch
from transformers import GPT2LMHeadModel

folder, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
torch.set_num_threads(2)
options = dict(max_new_tokens=decode.NEW, min_new_tokens=decode.NEW, do_sample=False, pad_token_id=0)


def from_transformers(model):
    model.generation_config.eos_token_id = None

    def generate(prompt):
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            return model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0, len(prompt):].tolist()

    return generate


def from_ctranslate2(precision):
    import ctranslate2
    from ctranslate2.converters import transformers as converters
    from ctranslate2.specs import transformer_spec

    place = folder.with_name(f"{folder.name}-{precision}")
    if not place.exists():
        model = GPT2LMHeadModel.from_pretrained(folder)
        config = model.config
        spec = transformer_spec.TransformerDecoderModelSpec.from_config(
            config.n_layer, config.n_head, pre_norm=True,
            activation=converters._SUPPORTED_ACTIVATIONS[config.activation_function])
        loader = converters.GPT2Loader()
        loader.set_decoder(spec.decoder, model.transformer)
        loader.set_linear(spec.decoder.projection, model.lm_head)
        # Ids are fed as they are, so the words of the vocabulary do not matter.
        spec.register_vocabulary([f"t{i}" for i in range(config.vocab_size)])
        spec.config.unk_token, spec.config.bos_token, spec.config.eos_token = "t0", "t1", "t2"
        spec.validate()
        spec.optimize(quantization=None if precision == "float32" else precision)
        place.mkdir()
        spec.save(str(place))
    generator = ctranslate2.Generator(str(place), device="cpu", intra_threads=2, compute_type=precision)
    return lambda prompt: generator.generate_batch(
        [[f"t{i}" for i in prompt]], max_length=decode.NEW, min_length=decode.NEW, sampling_topk=1,
        include_prompt_in_result=False, end_token=[])[0].sequences_ids[0]


def from_optimum():
    import onnxruntime
    from optimum.onnxruntime import ORTModelForCausalLM

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 2
    place = folder.with_name(f"{folder.name}-optimum")
    if not place.exists():
        ORTModelForCausalLM.from_pretrained(folder, export=True).save_pretrained(place)
    return from_transformers(ORTModelForCausalLM.from_pretrained(place, session_options=settings))


if kind == "torch":
    decode.report(from_transformers(GPT2LMHeadModel.from_pretrained(folder).eval()), kind)
elif kind == "optimum":
    decode.report(from_optimum(), kind)
else:
    decode.report(from_ctranslate2(kind), kind)
