"""What an artifact is made of, held to what phones, browsers and servers can run: no surprises where it is deployed.

Files are read, not run: an audit needs no runtime and nothing of Keras. Only SavedModels need TensorFlow, whose list of
operators they are held to.
"""
import collections
import pathlib
from typing import NamedTuple

from kzoo.errors import not_installed
from kzoo.export.signature_tables import MERGED

# Of TFLite: operators that keep something from one call to the next, and that run graphs of their own.
STATE = frozenset({"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE", "HASHTABLE", "HASHTABLE_FIND",
                   "HASHTABLE_IMPORT", "HASHTABLE_SIZE"})
STATE_DTYPES = frozenset({"RESOURCE", "VARIANT"})
TFLITE_CONTROL_FLOW = frozenset({"IF", "WHILE", "CALL", "STABLEHLO_WHILE", "STABLEHLO_CUSTOM_CALL"})
WIDE_DTYPES = frozenset({"INT64", "UINT64", "FLOAT64"})

# Of ONNX: from the opset with LayerNormalization to that with Attention.
OPSETS = range(17, 24)
CONTRIB = "com.microsoft"  # the operators that ONNX Runtime adds to the standard's
ONNX_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap"})

# Of SavedModels: operators that call back into the Python that made them.
PYTHON_CALLS = frozenset({"PyFunc", "PyFuncStateless", "EagerPyFunc"})


class Audit(NamedTuple):
    """Attributes:
        checks: tuples (check, value, limit, passed, note), as rows of `kzoo.export.verify.Report` hold them; the value
            counts what should not be there, and passed is None for what could not be checked here.
        record: for the manifest: `operators`, kind -> how many; of TFLite also `delegates`, see
            `kzoo.export.delegates.left_over`, and `arena`, signature -> bytes of `kzoo.export.tflite_file.arena_size`.
    """
    checks: list
    record: dict


def audit(bundle, artifact):
    """Hold the files of an artifact to the rules of its format.

    Args:
        bundle: a `kzoo.export.artifact.Bundle`.
        artifact: one of its artifacts.

    Returns: an `Audit`; without checks for a format that has no rules.
    """
    rules, allowed = RULES[artifact.runtime]
    if bundle.manifest.get("portable"):
        allowed = set(allowed) - {CONTRIB}
    paths = {name: bundle.folder / name for name in artifact.files}
    try:
        return rules(paths, frozenset(allowed)) if rules else Audit([], {})
    except ImportError as error:
        return Audit([("audit", None, None, None, f"could not be checked: {not_installed(error)}")], {})
    except Exception as error:  # each library has exceptions of its own for a file that it cannot read
        lines = str(error).splitlines() or [""]
        return Audit([("audit", None, None, False,
                       f"{artifact.file} cannot be read: {type(error).__name__}: {lines[0][:300]}")], {})


def _audit_tflite(paths, allowed):
    from kzoo.export.delegates import left_over
    from kzoo.export.tflite_file import arena_size, read_tflite

    graphs = [graph for name, path in paths.items() if name.endswith(".tflite") for graph in read_tflite(path)]
    kinds = collections.Counter(operator.kind for graph in graphs for operator in graph.operators)
    # What a tokenizer makes has as many tokens as the text, counted as it likes.
    numeric = [graph for graph in graphs
               if not any(each.is_custom and each.kind in allowed for each in graph.operators)]
    signatures, of_numbers = (", ".join(each.name for each in some) for some in (graphs, numeric))
    asked = f", with {', '.join(sorted(allowed))} as asked" if allowed else ""
    checks = [
        _judge("builtin operators only", [
            f"{graph.name}: {each.kind}" for graph in graphs for each in graph.operators
            if each.is_custom and each.kind not in allowed], _operators(kinds) + asked),
        _judge("no numbers of 64 bits", [
            f"{graph.name}: {each.name!r} is {each.dtype}" for graph in numeric for each in graph.tensors
            if each.dtype in WIDE_DTYPES], of_numbers),
        _judge("fixed shapes", [
            f"{graph.name}: {each.name!r} has the shape {each.shape}" for graph in numeric for each in graph.tensors
            if any(size < 0 for size in each.shape)], of_numbers),
        _judge("no variables", [
            *(f"{graph.name}: {each.kind}" for graph in graphs for each in graph.operators if each.kind in STATE),
            *(f"{graph.name}: {each.name!r}" for graph in graphs for each in graph.tensors
              if each.is_variable or each.dtype in STATE_DTYPES)], signatures),
        _judge("no control flow", [
            f"{graph.name}: {each.kind}" for graph in graphs for each in graph.operators
            if each.kind in TFLITE_CONTROL_FLOW], signatures)]
    return Audit(checks, {"operators": dict(kinds.most_common()), "delegates": left_over(graphs),
                          "arena": {graph.name: arena_size(graph) for graph in graphs}})


def _audit_onnx(paths, allowed):
    import onnx

    kinds, domains, opsets = collections.Counter(), collections.Counter(), set()
    problems = {check: [] for check in ("known operators only", "opset", "no control flow", "no dangling functions",
                                        "data inside the bundle")}
    files = [name for name in paths if name.endswith(".onnx")]
    for name in files:
        model = onnx.load(paths[name], load_external_data=False)
        graphs = [graph for each in (model.graph, *model.functions) for graph in _graphs(each)]
        nodes = [(_domain(node), node) for graph in graphs for node in graph.node]
        imports = {_domain(each): each.version for each in model.opset_import}
        own = {(_domain(each), each.name) for each in model.functions}
        kinds.update(f"{domain}.{node.op_type}" if domain else node.op_type for domain, node in nodes)
        domains.update(domain for domain, _ in nodes)
        opsets.add(imports.get("", 0))
        problems["known operators only"] += [
            f"{name}: {domain}.{node.op_type}" for domain, node in nodes
            if not {domain, node.op_type} & {"", *allowed} and (domain, node.op_type) not in own]
        problems["opset"] += [f"{name} imports no {domain!r}"
                              for domain in sorted({domain for domain, _ in nodes} - set(imports))]
        if imports.get("", OPSETS[0]) not in OPSETS:
            problems["opset"].append(f"{name} asks for opset {imports['']}, known are {OPSETS[0]} to {OPSETS[-1]}")
        # Programs that want both decoders in one graph want the choice between them in it, too.
        chooses = {"If"} if pathlib.PurePosixPath(name).name.startswith(MERGED.file_name) else set()
        problems["no control flow"] += [f"{name}: {node.op_type} {node.name!r}" for _, node in nodes
                                        if node.op_type in ONNX_CONTROL_FLOW - chooses - allowed]
        called = {(domain, node.op_type) for domain, node in nodes}
        problems["no dangling functions"] += [f"{name}: nothing calls {domain}.{kind}"
                                              for domain, kind in sorted(own - called)]
        problems["data inside the bundle"] += [
            f"{name}: {problem}" for tensor in _tensors(graphs)
            if tensor.data_location == onnx.TensorProto.EXTERNAL and (problem := _misplaced(tensor, name, paths))]
    notes = {"known operators only": _operators(kinds) + ": " + " and ".join(
                 f"{count:,} of {domain or 'the standard'}" for domain, count in sorted(domains.items())),
             "opset": ", ".join(f"opset {version}" for version in sorted(opsets))}
    return Audit([_judge(check, found, notes.get(check, ", ".join(files))) for check, found in problems.items()],
                 {"operators": dict(kinds.most_common())})


def _audit_saved_model(paths, allowed):
    import tensorflow as tf
    from tensorflow.core.protobuf import saved_model_pb2

    kinds, functions = collections.Counter(), set()
    for name, path in paths.items():
        if not name.endswith("saved_model.pb"):
            continue
        for each in saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs:
            library = each.graph_def.library.function
            functions |= {function.signature.name for function in library}
            for nodes in (each.graph_def.node, *(function.node_def for function in library)):
                kinds.update(node.op for node in nodes)
    kinds = collections.Counter({kind: count for kind, count in kinds.items() if kind not in functions})
    known = set(dir(tf.raw_ops))  # made when TensorFlow was built: what other packages register is not in it
    checks = [_judge("no custom operators", [f"{count} {kind}" for kind, count in kinds.items()
                                             if kind not in known and kind not in allowed], _operators(kinds)),
              _judge("no calls of Python", [f"{count} {kind}" for kind, count in kinds.items()
                                            if kind in PYTHON_CALLS], f"{len(functions)} functions")]
    return Audit(checks, {"operators": dict(kinds.most_common())})


def _judge(check, problems, note):
    """A check that passes without problems; `note` then says what was looked at."""
    if not problems:
        return f"audit: {check}", 0, 0, True, note
    more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
    return f"audit: {check}", len(problems), 0, False, "; ".join(problems[:3]) + more


def _operators(kinds):
    return f"{sum(kinds.values()):,} operators of {len(kinds)} kinds"


def _domain(row):
    """Of a node, a function or an import; the standard's has two spellings."""
    return "" if row.domain == "ai.onnx" else row.domain


def _graphs(graph):
    """An ONNX graph or function, and the graphs inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _graphs(inner)


def _tensors(graphs):
    """Every constant of ONNX graphs and functions."""
    for graph in graphs:
        yield from getattr(graph, "initializer", ())
        for sparse in getattr(graph, "sparse_initializer", ()):
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)


def _misplaced(tensor, name, paths):
    """What is wrong with the place of a tensor's numbers, or None.

    Args:
        tensor: of ONNX, with external data.
        name: of its graph's file, relative to the bundle.
        paths: name -> place of the artifact's files.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = pathlib.PurePosixPath(name).parent / entries.get("location", "")
    path = paths.get(str(place))
    if path is None:
        return f"{tensor.name!r} lies in {entries.get('location', '')!r}, which is no file of this artifact"
    if int(entries.get("offset", 0)) + int(entries.get("length", 0)) > path.stat().st_size:
        return f"{tensor.name!r} ends behind the end of {path.name}"
    return None


# Runtime -> the rules of its files, and the operators that they may have beyond those: by name, of ONNX also by domain.
# Where text goes in, a tokenizer's are such.
RULES = {
    "tflite": (_audit_tflite, ()),
    "onnx": (_audit_onnx, (CONTRIB,)),
    "savedmodel": (_audit_saved_model, ()),
    "keras": (None, ()),
    "tflite-text": (_audit_tflite, ("FastWordpieceTokenizeWithOffsets", "TFText>FastSentencepieceTokenize",
                                    "TFText>FastSentencepieceDetokenize")),
    "onnx-text": (_audit_onnx, (CONTRIB, "ai.onnx.contrib", "ai.onnx.ml")),
    "savedmodel-text": (_audit_saved_model, ("FastWordpieceTokenizeWithOffsets", "NormalizeUTF8",
                                             "RegexSplitWithOffsets", "SentencepieceOp", "SentencepieceTokenizeOp")),
}
