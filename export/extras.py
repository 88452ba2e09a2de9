"""Files beside an artifact that some program wants there."""
import pathlib

from kzoo.export.artifact import main_file
from kzoo.export.signature_tables import FORWARD, kind_of


def write_extras(model, folder, runtime, variant, sizes):
    """Write what belongs to one artifact besides the model.

    Args:
        model: the task model.
        folder: the bundle being made, its tokenizer files in place.
        runtime, variant: of the artifact.
        sizes: the bundle's.

    Returns: the files written, relative to `folder`.
    """
    writers = EXTRAS.get((kind_of(model.task, sizes), runtime), ())
    return [name for write in writers for name in write(model, folder, variant, sizes)]


def _genai(model, folder, variant, sizes):
    """onnxruntime-genai takes a folder with one config; it serves the first variant that is written."""
    from kzoo.export.genai import genai_config
    from kzoo.files import write_json

    name = "onnx/genai_config.json"
    if (folder / name).exists():
        return []
    write_json(folder / name, genai_config(model, variant))
    return [name]


def _tokenizer(model, folder, variant, sizes):
    """onnxruntime-genai looks for the tokenizer beside its config."""
    if model.tokenizer is None or (folder / "onnx" / "tokenizer.json").exists():
        return []
    before = set((folder / "onnx").iterdir())
    model.tokenizer.save(folder / "onnx")
    return sorted(f"onnx/{path.name}" for path in set((folder / "onnx").iterdir()) - before)


def _javascript(model, folder, variant, sizes):
    """transformers.js reads in config.json what to open; no artifact owns that file. The first variant writes it."""
    from kzoo.export.genai import javascript_settings
    from kzoo.files import read_json, write_json

    config = read_json(folder / "config.json")
    if "transformers.js_config" not in config:
        data = sorted(path.name for path in (folder / "onnx").glob("*.onnx_data"))
        write_json(folder / "config.json", {**config, "transformers.js_config": javascript_settings(variant, data)})
    return []


def _litertlm(model, folder, variant, sizes):
    """One file for phones. It holds a copy of the model; without a tokenizer there is none."""
    from kzoo.export.litertlm import write_litertlm

    if model.tokenizer is None:
        return []
    source = folder / main_file("tflite", variant)
    place = source.with_suffix(".litertlm")
    eos_id = model.tokenizer.eos_id
    never = model.config.vocabulary_size  # one past the last id: the engine asks for an end, and this is none
    write_litertlm(source, folder, place, stop_ids=[never if eos_id is None else eos_id],
                   max_num_tokens=sizes["static_length"])
    return [str(pathlib.PurePosixPath(place.relative_to(folder)))]


# (what `kind_of` says, runtime) -> what is written beside it.
EXTRAS = {
    **{(task, "onnx"): (_javascript,) for task in FORWARD},
    ("text-generation", "onnx"): (_javascript, _genai, _tokenizer),
    ("text-generation", "tflite"): (_litertlm,),
}
