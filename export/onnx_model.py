"""ONNX: one graph by tf2onnx, with the weights put in afterwards."""
import contextlib
import gc
import logging
import os
import pathlib
import tempfile

import keras
import numpy as np
import onnx
import onnx_ir as ir

from kzoo.checkpoint import variables_by_path
from kzoo.export.artifact import main_file
from kzoo.export.onnx_graph import clean
from kzoo.export.onnx_merged import merge_decoders, save_together
from kzoo.export.onnx_quantize import BITS, quantize
from kzoo.export.onnx_session import open_graph
from kzoo.export.signature_tables import MERGES, TABLES
from kzoo.export.signatures import merged_signature, sizes_of
from kzoo.export.target import Target
from kzoo.export.trace import run_signature

OPSET = 18  # the newest that tf2onnx writes
NEAR = 0.05  # half of what the verification allows, which asks more
CATCH_ERRORS = "TF2ONNX_CATCH_ERRORS"  # where tf2onnx reads what to do when an optimiser fails
EXTERNAL_ABOVE = 2 * 1024**3 - 64 * 1024**2  # bytes; one protobuf message holds at most 2 GiB, graph included


class OnnxTarget(Target):
    """`onnx/model.onnx`, of a decoder with past key values in and out, a past of length 0 allowed.

    An encoder-decoder has `encoder_model.onnx`, `decoder_model.onnx` and `decoder_with_past_model.onnx` in its place,
    and `decoder_model_merged.onnx` for programs that want both decoders in one; these share their weights, which lie
    in `decoder_model_merged.onnx_data`.

    The weights are inputs of the traced function and become initializers after the conversion: tf2onnx copies the
    graph dozens of times while it optimises, and must not copy them along. It also stores each once.
    """

    name = "onnx"
    quantisations = ("none", "fp16", *BITS)

    def __init__(self, portable=False, *args):
        super().__init__(portable, *args)
        if portable:
            self.quantisations = tuple(variant for variant in self.quantisations if variant not in BITS)

    def check(self, quantize):
        if self.portable and quantize in BITS:
            raise ValueError(f"Format 'onnx': {quantize!r} needs operators of ONNX Runtime's own, and `portable` "
                             "(--portable) keeps to the standard's. Leave one of the two out.")
        super().check(quantize)

    def write(self, model, folder, quantize="none"):
        self.check(quantize)
        folder = pathlib.Path(folder)
        (folder / self.path(quantize)).parent.mkdir(parents=True, exist_ok=True)
        weights, sizes = variables_by_path(model), sizes_of(model)
        forms = self.signatures(model)
        forms = {name: form for name, form in forms.items() if not form.derived}
        if set(MERGES) <= set(forms):
            forms["merged"] = merged_signature(forms)
        paths = {name: folder / main_file("onnx", quantize, form.file_name) for name, form in forms.items()}
        protos = {name: convert_graph(model, form, weights) for name, form in forms.items() if name != "merged"}
        arrays = {name: np.asarray(variable) for name, variable in weights.items()}
        del model, weights  # from here on the weights are in memory once
        gc.collect()
        graphs = integer_graphs(protos, forms, arrays, sizes) if quantize == "int8" else {}
        files, decoders = [], {}
        for name, form in forms.items():
            if name == "merged":
                decoders[name] = merge_decoders(decoders["prefill"], decoders["decode"], forms)
                continue
            graph = graphs[name] if graphs else build(
                ir.from_proto(protos[name]), form, arrays, quantize, portable=self.portable)
            if "merged" in forms and name in MERGES:
                decoders[name] = graph
            else:
                files += save(graph, paths[name])
        if decoders:
            files += save_together(list(decoders.values()), [paths[name] for name in decoders])
        arrays, graphs, graph, decoders = {}, {}, None, {}  # the runtime needs the memory to try the files
        gc.collect()
        for name, form in forms.items():
            check(paths[name], form)
        return [str(file.relative_to(folder)) for file in files]

    def path(self, quantize="none", task="text-generation"):
        return main_file("onnx", quantize, TABLES[task]["onnx"][0].file_name)


def convert_graph(model, signature, weights):
    """The signature's graph as an ONNX model whose last inputs are the weights, by path."""
    import tensorflow as tf
    import tf2onnx

    variables = list(weights.values())

    def function(*tensors):
        inputs = dict(zip((row.name for row in signature.inputs), tensors, strict=False))
        values = tensors[len(signature.inputs):]
        with keras.StatelessScope(state_mapping=list(zip(variables, values, strict=True))):
            outputs = run_signature(model, signature, inputs)
        # Named by an identity: the outputs of the file take the names of these nodes.
        return {row.file_name: tf.identity(outputs[row.name], name=_safe(row.file_name)) for row in signature.outputs}

    specs = [tf.TensorSpec([size if isinstance(size, int) else None for size in row.shape], row.dtype,
                           name=row.file_name) for row in signature.inputs]
    specs += [tf.TensorSpec(variable.shape, variable.dtype, name=path) for path, variable in weights.items()]
    with quiet_tf2onnx():
        graph, _ = tf2onnx.convert.from_function(
            tf.function(function, autograph=False), input_signature=specs, opset=OPSET)
    return graph


def integer_graphs(protos, forms, arrays, sizes):
    """name -> `onnx_ir.Model` with 8 bits by products of integers; empty where blocks serve better.

    Integers are faster where many tokens go through at once, and less exact: their answers must stay near. A decoder
    without an encoder mostly reads one token at a time, which blocks are faster at.

    Args:
        protos: name -> what `convert_graph` made; without weights, so cheap to keep.
        forms: name -> signature.
        arrays: path -> numpy array of each weight.
        sizes: of the model.
    """
    if not {"forward", "encode"} & set(forms):
        return {}
    plain, rounded = ({name: build(ir.from_proto(proto), forms[name], arrays, **options)
                       for name, proto in protos.items()} for options in ({}, {"variant": "int8", "dynamic": True}))
    return rounded if lost_by_integers(plain, rounded, forms, sizes) <= NEAR else {}


def lost_by_integers(plain, rounded, forms, sizes):
    """The largest error of an answer relative to its spread, on random tokens; see `integer_graphs`.

    The graphs run in turn, each on what those before it gave, which is no answer itself.
    """
    passed_on = {row.name for form in forms.values() for row in form.inputs}
    wanted = _random_tokens(forms, sizes)
    found, errors = dict(wanted), []
    for name in plain:
        wanted.update(_answers(plain[name], forms[name], wanted))
        found.update(_answers(rounded[name], forms[name], found))
        errors += [np.abs(found[row.name] - wanted[row.name]).max() / max(np.ptp(wanted[row.name]), 1e-30)
                   for row in forms[name].outputs if row.name not in passed_on]
    return float(max(errors))


def _random_tokens(forms, sizes):
    """Two texts for every input that stands for tokens, by our names."""
    random = np.random.default_rng(0)
    shape = (2, max(min(24, (sizes["max_sequence_length"] or 48) // 2), 1))
    ends = {"encoder_token_ids": "source_vocabulary_size", "token_ids": "vocabulary_size",
            "decoder_token_ids": "vocabulary_size"}
    return {row.name: random.integers(0, sizes[ends[row.name]], shape) if row.name in ends
            else np.full(shape, int(row.name.endswith("mask"))) for form in forms.values() for row in form.inputs
            if row.dtype == "int64"}


def _answers(model, form, values):
    """What an `onnx_ir.Model` makes of values by our names, by our names."""
    with tempfile.TemporaryDirectory() as folder:
        graph = open_graph(str(save(model, pathlib.Path(folder, "model.onnx"))[0]))
        outputs = graph.run([row.file_name for row in form.outputs], {
            row.file_name: values[row.name] for row in form.inputs})
    return dict(zip((row.name for row in form.outputs), outputs, strict=True))


def build(model, signature, arrays, variant="none", dynamic=False, portable=False):
    """Put the weights in, name what callers see, clean up, quantise. Returns the `onnx_ir.Model` to write.

    Args:
        model: an `onnx_ir.Model` as `convert_graph` makes it.
        signature: what its inputs and outputs are called.
        arrays: path -> numpy array of each weight.
        variant: its quantisation.
        dynamic: see `kzoo.export.onnx_quantize.quantize`.
        portable: see `kzoo.export.onnx_graph.clean`.
    """
    place_weights(model.graph, arrays)
    rename(model.graph, signature)
    clean(model, portable)
    model = quantize(model, variant, dynamic)
    model.producer_name, model.doc_string = "kzoo", None
    return model


def save(model, path):
    """Write one graph; beyond 2 GiB the weights go to a file `<path>_data` beside it. Returns the files written."""
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    if size <= EXTERNAL_ABOVE:
        ir.save(model, path)
        return [path]
    data = path.with_name(path.name + "_data")
    ir.save(model, path, external_data=data.name)
    return [path, data]


def place_weights(graph, arrays):
    """Turn the graph's weight inputs into initializers."""
    for value in list(graph.inputs):
        if value.name in arrays:
            graph.inputs.remove(value)
            value.const_value = ir.tensor(arrays[value.name], name=value.name)
            graph.initializers[value.name] = value


def rename(graph, signature):
    """Give inputs, outputs and free dimensions the signature's names."""
    by_name = {value.name.split(":")[0]: value for value in graph.inputs}
    rows = [(by_name.get(row.file_name) or by_name[_safe(row.file_name)], row) for row in signature.inputs]
    names = {output.name: output for output in graph.outputs}
    rows += [(names.get(row.file_name) or names[_safe(row.file_name)], row) for row in signature.outputs]
    for value, row in rows:
        value.name = row.file_name
        value.shape = ir.Shape(row.shape)


def check(path, signature):
    """Refuse a file that the checker or ONNX Runtime does, or that has other names than the signature's.

    tf2onnx only logs what it could not convert, so a file on the disk proves nothing yet.
    """
    onnx.checker.check_model(str(path))
    session = open_graph(str(path))
    for kind, found, rows in (("inputs", session.get_inputs(), signature.inputs),
                              ("outputs", session.get_outputs(), signature.outputs)):
        found, wanted = [value.name for value in found], [row.file_name for row in rows]
        if sorted(found) != sorted(wanted):
            raise ValueError(f"{path} has the {kind} {found}; the signature asks for {wanted}.")


@contextlib.contextmanager
def quiet_tf2onnx():
    """tf2onnx reports each step as a warning or information; its errors stay, and end the conversion.

    By default it copies the graph before each of its optimisers, to go on with the copy where one fails: that takes a
    third of the time, and hides the failure.
    """
    before = os.environ.get(CATCH_ERRORS)
    os.environ[CATCH_ERRORS] = "FALSE"
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tf2onnx.tfonnx", "tf2onnx.optimizer")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        if before is None:
            del os.environ[CATCH_ERRORS]
        else:
            os.environ[CATCH_ERRORS] = before


def _safe(name):
    """TensorFlow allows dots in names, but not everything ONNX does."""
    return name.replace("/", "_")
