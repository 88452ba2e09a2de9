"""Open a bundle in other people's programs and print what they make of it; run by test_clients.py.

    python clients.py CLIENT BUNDLE ARGUMENTS          # of the client's function below, each as JSON

Needs, in the Python that runs it: optimum-onnx with torch, onnxruntime-genai, or litert-lm. Nothing of kzoo.
"""
import json
import os
import sys


def optimum(bundle, prompt, new_tokens, beams):
    model, ids = open_optimum("ORTModelForCausalLM", bundle, prompt)
    return model.generate(**ids, max_new_tokens=new_tokens, num_beams=beams, eos_token_id=None, pad_token_id=0,
                          do_sample=False)[0].tolist()


def optimum_translate(bundle, source, new_tokens, beams, merged):
    """Settings are those of the bundle's generation_config.json; `merged` takes the one graph with both decoders."""
    model, ids = open_optimum("ORTModelForSeq2SeqLM", bundle, source, use_merged=merged)
    assert (model.decoder_with_past is None) == merged
    return model.generate(**ids, max_new_tokens=new_tokens, num_beams=beams)[0].tolist()


def optimum_answer(bundle, cls, token_ids):
    """The outputs of one row, by name."""
    model, ids = open_optimum(cls, bundle, token_ids)
    return {name: value.tolist() for name, value in model(**ids).items()}


def open_optimum(cls, bundle, token_ids, **options):
    """(the model, its inputs for one row)"""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import optimum.onnxruntime
    import torch

    ids = torch.tensor([token_ids])
    model = getattr(optimum.onnxruntime, cls).from_pretrained(bundle, **options)
    return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def genai(bundle, prompt, new_tokens, beams):
    import numpy as np
    import onnxruntime_genai

    model = onnxruntime_genai.Model(os.path.join(bundle, "onnx"))
    settings = onnxruntime_genai.GeneratorParams(model)
    length = len(prompt) + new_tokens
    settings.set_search_options(max_length=length, min_length=length, num_beams=beams, do_sample=False)
    generator = onnxruntime_genai.Generator(model, settings)
    generator.append_tokens(np.array([prompt], dtype="int32"))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)]


def litert_lm(bundle, prompt, new_tokens):
    """Text in, text out: the engine takes no ids."""
    import litert_lm

    with litert_lm.Engine(os.path.join(bundle, "tflite", "model.litertlm")) as engine:
        sampler = litert_lm.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=0)
        with engine.create_session(sampler_config=sampler, max_output_tokens=new_tokens) as session:
            session.run_prefill([prompt])
            return session.run_decode().texts[0]


if __name__ == "__main__":
    client, folder, *arguments = sys.argv[1:]
    print(json.dumps(globals()[client](folder, *map(json.loads, arguments))))
