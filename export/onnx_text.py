"""ONNX with its tokenizer inside, by onnxruntime-extensions' operators: strings in, the answer or their ids out."""
import pathlib

import onnx
import onnx_ir as ir
import onnxruntime_extensions  # noqa: F401 - works beside TensorFlow if it is loaded first, and what follows loads that

from kzoo.export.artifact import main_file
from kzoo.export.onnx_model import OnnxTarget, save
from kzoo.export.onnx_text_session import open_graph, rows_of
from kzoo.export.signature_tables import ANSWERS
from kzoo.export.target import Target
from kzoo.export.text_forms import DIFFICULT, around, refuse_differences, text_file, wanted_ids
from kzoo.tokenizers_in_onnx import OPSETS, Steps, onnx_tokenizer

IR_VERSION = 10


class OnnxTextTarget(Target):
    """`onnx/model_text.onnx`: the graph of `model.onnx`, quantised as that is, behind one that makes ids of strings.

    For tasks whose model is run step by step `onnx/tokenizer.onnx`, the first graph alone.
    """

    name = "onnx-text"
    quantisations = OnnxTarget.quantisations

    def write(self, model, folder, quantize="none"):
        self.check(quantize)
        folder, tokenizer, task = pathlib.Path(folder), model.tokenizer, model.task
        path = folder / self.path(quantize, task)
        path.parent.mkdir(parents=True, exist_ok=True)
        eos_id = getattr(model.config, "eos_id", None)
        longest = model.config.max_sequence_length if task in ANSWERS else None
        read = _Reader(onnx_tokenizer(tokenizer), *around(task, tokenizer, eos_id), tokenizer.pad_id or 0, longest)
        graph = ir.Graph([], [], nodes=[], opset_imports=dict(OPSETS), name="text")
        outputs = read(graph)
        finish(graph, outputs)
        result = ir.Model(graph, ir_version=IR_VERSION)
        found = rows_of(open_graph(ir.to_proto(result).SerializeToString()), DIFFICULT)
        refuse_differences(self.name, DIFFICULT, wanted_ids(task, tokenizer, DIFFICULT, eos_id, longest), found)
        if task in ANSWERS:
            result = ir.load(folder / OnnxTarget().path(quantize, task))
            answers = list(result.graph.outputs)
            outputs = put_before(result.graph, read)
            label = [classes(result.graph, answers[0], model.labels)] if task == "text-classification" else []
            finish(result.graph, [*label, *answers, *outputs])
        (signature,) = self.signatures(model).values()
        for value, row in zip(result.graph.outputs, signature.outputs, strict=True):
            value.name, value.shape = row.file_name, ir.Shape(row.shape)
        result.graph.inputs[0].shape = ir.Shape(signature.inputs[0].shape)
        result.producer_name, result.doc_string = "kzoo", None
        files = save(result, path)
        onnx.checker.check_model(str(path))
        return [str(file.relative_to(folder)) for file in files]

    def path(self, quantize="none", task="text-generation"):
        return main_file(self.name, quantize, text_file(task))


class _Reader:
    """Adds to the start of a graph the steps from texts to rows of ids, by a twin of `kzoo.tokenizers_in_onnx`.

    Args:
        twin: what `onnx_tokenizer` gave.
        before, after: lists of ids around each text.
        pad: the id that follows.
        longest: most ids of a row; of a longer one the end of the text is cut. None or 0: no limit.
    """

    def __init__(self, twin, before, after, pad, longest):
        self._twin, self._around, self._longest = twin, (list(before), list(after), [pad]), longest

    def __call__(self, graph):
        """(token ids (B, T), 1 for each real one (B, T), tokens of the uncut texts (B,)), all int64."""
        steps = Steps()
        texts = ir.val("texts", dtype=ir.DataType.STRING, shape=("batch_size",))
        rows = self._rows(steps, *self._twin(steps, texts))
        for i, node in enumerate(steps.nodes):
            node.name = f"text_{i}"
            for j, value in enumerate(node.outputs):
                value.name = f"text_{i}_{j}"
        for value in rows:
            value.dtype = ir.DataType.INT64
        nodes = list(graph)
        if nodes:
            graph.insert_before(nodes[0], steps.nodes)
        else:
            graph.extend(steps.nodes)
        for value in steps.initializers:
            graph.initializers[value.name] = value
        graph.inputs.append(texts)
        return rows

    def _rows(self, steps, ids, starts, lengths):
        before, after, pad = self._around
        extra, first = len(before) + len(after), len(before)
        kept = lengths
        if self._longest:
            kept = steps.op("Min", [lengths, steps.constant([self._longest - extra])])
        total = steps.op("Add", [kept, steps.constant([extra])])
        places = steps.range(steps.largest(total))
        shifted = steps.op("Sub", [places, steps.constant(first)])
        inside = steps.op("And", [steps.op("GreaterOrEqual", [places, steps.constant(first)]),
                                  steps.op("Less", [shifted, steps.column(kept)])])
        real = steps.op("Less", [places, steps.column(total)])
        # Behind the ids stand `before`, `after` and the padding.
        size = steps.op("Size", [ids])
        past = steps.op("Sub", [steps.op("Add", [places, size]), steps.column(kept)])
        behind = steps.op("Where", [steps.op("Less", [places, steps.constant(first)]),
                                    steps.op("Add", [places, size]), past])
        behind = steps.op("Where", [real, behind, steps.op("Add", [size, steps.constant(extra)])])
        index = steps.op("Where", [inside, steps.op("Add", [steps.column(starts), shifted]), behind])
        values = steps.op("Concat", [ids, steps.constant([*before, *after, *pad])], {"axis": 0})
        return (steps.op("Gather", [values, index]), steps.integers(real),
                steps.op("Add", [lengths, steps.constant([extra])]))


def put_before(graph, read):
    """Let a graph of ids read texts; returns what `read` does."""
    inputs = {value.name: value for value in graph.inputs}
    outputs = read(graph)
    made = dict(zip(("input_ids", "attention_mask"), outputs, strict=False))
    if "token_type_ids" in inputs:  # one text is one segment
        zeros = ir.node("Sub", [outputs[0], outputs[0]])
        zeros.outputs[0].name = "text_segments"
        graph.insert_after(outputs[0].producer(), zeros)
        made["token_type_ids"] = zeros.outputs[0]
    for name, value in inputs.items():
        ir.convenience.replace_all_uses_with(value, made[name])
        graph.inputs.remove(value)
    for domain, version in OPSETS.items():
        graph.opset_imports[domain] = max(version, graph.opset_imports.get(domain, 1))
    return outputs


def classes(graph, logits, labels):
    """The name of the likeliest class of each text, from logits (B, N): strings (B,)."""
    steps = Steps()
    best = steps.op("ArgMax", [logits], {"axis": -1, "keepdims": 0})
    names = steps.constant(list(labels))
    names.name = names.const_value.name = "text_labels"
    label = steps.op("Gather", [names, best])
    best.name, label.name, label.dtype = "text_best", "label", ir.DataType.STRING
    graph.initializers[names.name] = names
    graph.extend(steps.nodes)
    return label


def finish(graph, outputs):
    """Let a graph have these outputs, in order."""
    graph.outputs.clear()
    graph.outputs.extend(outputs)
    graph.sort()
