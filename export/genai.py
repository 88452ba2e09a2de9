"""The small configs that let other programs open a bundle as it is."""
from kzoo.export.artifact import main_file
from kzoo.export.signature_tables import REWRITING
from kzoo.export.signatures import sizes_of

# Variant -> what transformers.js calls it.
JAVASCRIPT_TYPES = {"none": "fp32", "fp16": "fp16", "int8": "int8", "int4": "q4"}


def hugging_face_files(model):
    """file name -> dict for the bundle's folder: config.json and generation_config.json in Hugging Face's form.

    A model that their classes cannot describe gets a config.json in kzoo's form; runtimes other than theirs do not
    read it.
    """
    from kzoo.hugging_face import hugging_face_config
    from kzoo.saving import config_dict

    try:
        config = hugging_face_config(model)
    except ValueError:
        config = config_dict(model)
    return {"config.json": config, "generation_config.json": generation_config(model)}


def javascript_settings(variant, data_files):
    """What config.json tells transformers.js under "transformers.js_config".

    Args:
        variant: of the ONNX file that it opens where a page asks for none.
        data_files: names of the files, in the folder of the graphs, that hold weights of a graph.
    """
    # Only a page needs the list: there the data file must be fetched beside the graph that names it.
    return {"dtype": JAVASCRIPT_TYPES[variant],
            "use_external_data_format": {name.removesuffix("_data"): 1 for name in data_files}}


def generation_config(model):
    """What `transformers` takes as the defaults of `generate`."""
    special = {f"{name}_token_id": value for name, value in _special_ids(model).items()}
    if model.task in REWRITING:
        config, defaults = model.config, model.config.generation_defaults()
        special.update(decoder_start_token_id=config.decoder_start_id, eos_token_id=config.eos_id,
                       pad_token_id=config.pad_id, forced_eos_token_id=defaults.get("forced_eos_token_id"),
                       bad_words_ids=[[index] for index in defaults.get("suppress_tokens", ())] or None)
    return {"do_sample": False, **special}


def genai_config(model, variant="none"):
    """genai_config.json for onnxruntime-genai, beside the ONNX file.

    The type is "decoder", the generic one with separate keys and values; caches grow by concatenation, so the buffer
    for past and present is not shared.
    """
    config, sizes = model.config, sizes_of(model)
    special = _special_ids(model)
    decoder = {"filename": main_file("onnx", variant).rsplit("/", 1)[1],
               "num_hidden_layers": sizes["num_layers"], "num_attention_heads": config.num_heads,
               "num_key_value_heads": sizes["num_key_value_heads"], "head_size": sizes["head_dim"],
               "hidden_size": config.hidden_dim}
    # The program asks for all three ids; one past the vocabulary is never generated.
    never = sizes["vocabulary_size"]
    ids = {f"{name}_token_id": never if value is None else value for name, value in special.items()}
    return {"model": {"type": "decoder", **ids, "vocab_size": sizes["vocabulary_size"],
                      "context_length": sizes["max_sequence_length"], "decoder": decoder},
            "search": {"max_length": sizes["max_sequence_length"], "do_sample": False, "num_beams": 1,
                       "past_present_share_buffer": False}}


def _special_ids(model):
    tokenizer = model.tokenizer
    return {name: None if tokenizer is None else getattr(tokenizer, f"{name}_id") for name in ("bos", "eos", "pad")}
