"""What the live model said: inputs and outputs that every artifact must repeat, kept in the bundle as arrays."""
import dataclasses
import math
import zipfile

import numpy as np

from kzoo.export.session_inputs import check_inputs
from kzoo.export.signature import Row, Signature
from kzoo.export.signature_tables import REWRITING
from kzoo.export.signatures import forward_signature

GREEDY_STEPS = 32
TOP = 8  # likeliest tokens recorded at each greedy step
LARGEST_ANSWER = 2**21  # numbers of one output of one long text
SEGMENTS = 3  # that models without a limit read
LONGEST_END = 2048  # contexts up to this length are also tried at their very end
MAX_BYTES = 2**31

# Batches of prompts: (batch, length, side of the padding, real tokens of each row). All sizes differ.
CASES = (
    (1, 1, "none", (1,)),
    (1, 7, "none", (7,)),
    (3, 5, "right", (5, 2, 1)),
    (2, 11, "left", (11, 4)),
)
GREEDY_LENGTHS = (3, 13, 1)


@dataclasses.dataclass(frozen=True)
class Case:
    """One call of `forward` and its answer.

    Attributes:
        name: for reports.
        inputs, outputs: dicts of arrays by our names.
        per_token: names of the outputs (B, T, ...), which have a row for each token.
    """
    name: str
    inputs: dict
    outputs: dict
    per_token: tuple

    def real(self, name, values=None):
        """What is compared of an output: all of it, or its real tokens (N, ...) where it has a row for each token.

        Args:
            name: of the output.
            values: an array like it; None means its own.
        """
        values = self.outputs[name] if values is None else values
        return values[self.inputs["padding_mask"]] if name in self.per_token else values

    def prompts(self):
        """`inputs` as those of a continuation: what is continued is `token_ids`, with its `padding_mask`."""
        if "decoder_token_ids" not in self.inputs:
            return self.inputs
        ids = self.inputs["decoder_token_ids"]
        rest = {name: value for name, value in self.inputs.items() if name != "decoder_token_ids"}
        return {**rest, "token_ids": ids, "padding_mask": np.ones(ids.shape, bool)}


@dataclasses.dataclass(frozen=True)
class Continuation:
    """Greedy steps of a batch of prompts.

    Attributes:
        name: for reports.
        inputs: dict of `token_ids` and `padding_mask` (B, T), padded on the left; with an encoder also of its inputs,
            padded on the right.
        tokens: int32 (B, N), the likeliest token at each step, which is fed to the next.
        gaps: float32 (B, N), by how much its logit exceeds the second.
        top_ids, top_logits: (B, N, 8), the likeliest tokens, best first.
        spread: float32 scalar, the largest minus the smallest of all these logits.
    """
    name: str
    inputs: dict
    tokens: np.ndarray
    gaps: np.ndarray
    top_ids: np.ndarray
    top_logits: np.ndarray
    spread: np.ndarray


# The arrays of a continuation, as `check_inputs` takes them.
_STEPS = ("batch_size", "steps")
CONTINUATION = (
    Row("token_ids", "", ("batch_size", "sequence_length"), "int32"),
    Row("padding_mask", "", ("batch_size", "sequence_length"), "bool"),
    Row("next_token_ids", "", _STEPS, "int32"),
    Row("gaps", "", _STEPS, "float32"),
    Row("top_token_ids", "", (*_STEPS, "top"), "int32"),
    Row("top_logits", "", (*_STEPS, "top"), "float32"),
    Row("spread", "", (), "float32"),
)


@dataclasses.dataclass(frozen=True)
class Golden:
    """The reference of a verification."""
    cases: tuple
    continuations: tuple


def record_golden(session, seed=0):
    """Ask the reference session everything that artifacts will be asked.

    Args:
        session: on the live model; see `kzoo.export.keras_session.live_session`.
        seed: of the random token ids.
    """
    random = np.random.default_rng(seed)
    record = _record_rewriting if session.task in REWRITING else _record_stack
    cases, continuations = record(session, random)
    return Golden(tuple(cases), tuple(continuations))


def _record_stack(session, random):
    """(cases, continuations) of a model with one stack."""
    sizes = session.sizes
    longest = sizes.get("static_length", sizes["max_sequence_length"])
    if not sizes["max_sequence_length"]:
        longest *= SEGMENTS  # there is no limit, and what is of fixed shape reads on
    form = session.signatures["forward"]
    per_token = tuple(row.name for row in form.outputs if "sequence_length" in row.shape)
    generates = hasattr(session, "prefill")  # then continuations go to the end of the context
    cases = []
    for batch, length, side, real in (*CASES, *(() if generates else _long_cases(form, sizes))):
        length = min(length, longest)
        inputs = padded_batch(random, sizes["vocabulary_size"], [min(each, length) for each in real], side)
        if any(row.name == "segment_ids" for row in form.inputs):
            inputs["segment_ids"] = random.integers(0, sizes["num_segments"], (batch, length)).astype("int32")
        if any(row.name == "global_mask" for row in form.inputs):
            chosen = random.random((batch, length)) < 0.2
            inputs["global_mask"] = chosen & (np.cumsum(chosen, axis=1) <= sizes["max_global_tokens"])
        outputs = session.run("forward", inputs)
        outputs = {name: np.where(_aligned(inputs["padding_mask"], value), value, 0) if name in per_token else value
                   for name, value in outputs.items()}
        cases.append(Case(f"batch {batch}, length {length}, {_where(side)}", inputs, outputs, per_token))
    continuations = []
    if generates:
        for name, lengths, steps in _prompts(longest):
            inputs = padded_batch(random, sizes["vocabulary_size"], lengths, "left")
            continuations.append(_continue(session, name, inputs, steps))
    return cases, continuations


def _record_rewriting(session, random):
    """(cases, continuations) of a model that reads a source before it writes a target."""
    sizes, cases = session.sizes, []
    longest = sizes["static_length"]
    longest_target = min(longest, sizes.get("max_target_length") or longest)
    for batch, length, side, real in (*CASES[:3], (2, min(longest, 45), "right", (min(longest, 45), 2))):
        source = padded_batch(random, sizes["source_vocabulary_size"], [min(each, longest) for each in real], side)
        width = min(4 + length, longest_target, 16)
        targets = random.integers(0, sizes["vocabulary_size"], (batch, width)).astype("int32")
        targets[:, 0] = session.decoder_start_id
        inputs = {"encoder_token_ids": source["token_ids"], "encoder_padding_mask": source["padding_mask"],
                  "decoder_token_ids": targets}
        name = f"batch {batch}, source {min(length, longest)}, {_where(side)}, target {targets.shape[1]}"
        cases.append(Case(name, inputs, session.run("forward", inputs), ()))
    steps = min(GREEDY_STEPS, longest_target)
    lengths = [min(length, longest) for length in GREEDY_LENGTHS]
    source = padded_batch(random, sizes["source_vocabulary_size"], lengths, "right")
    inputs = {"encoder_token_ids": source["token_ids"], "encoder_padding_mask": source["padding_mask"],
              **padded_batch(random, 1, [1] * len(lengths), "none")}
    inputs["token_ids"][:] = session.decoder_start_id
    return cases, [_continue(session, f"greedy, {len(lengths)} sources", inputs, steps)]


def _where(side):
    return "no padding" if side == "none" else f"padded {side}"


def _long_cases(form, sizes):
    """For tasks that do not generate, a text of the model's full length, or as long as the answer has room here."""
    width = max(math.prod(size for size in row.shape if isinstance(size, int)) for row in form.outputs)
    length = min(sizes["max_sequence_length"], LONGEST_END, max(LARGEST_ANSWER // width, 16))
    return ((1, length, "none", (length,)), (2, max(length // 4, 1), "right", (max(length // 4, 1), 1)))


def _aligned(mask, values):
    """(B, T) as (B, T, 1, ...), to go with `values`."""
    return mask.reshape(mask.shape + (1,) * (values.ndim - 2))


def padded_batch(random, vocabulary_size, lengths, side):
    """Random prompts of given lengths, padded with zeros: dict of `token_ids` and `padding_mask`, (B, T)."""
    width = max(lengths)
    columns = np.arange(width)
    mask = np.stack([columns >= width - length if side == "left" else columns < length for length in lengths])
    ids = random.integers(0, vocabulary_size, mask.shape).astype("int32")
    return {"token_ids": np.where(mask, ids, 0).astype("int32"), "padding_mask": mask}


def _prompts(context):
    """(name, lengths, steps): different lengths in one batch, and the last tokens that the context holds."""
    steps = max(min(GREEDY_STEPS, context - context // 4), 1)
    lengths = [max(min(length, context - steps), 1) for length in GREEDY_LENGTHS]
    yield f"greedy, {len(lengths)} prompts", lengths, min(steps, context - max(lengths) + 1)
    if 8 <= context <= LONGEST_END:
        yield "greedy to the end of the context", [context - 4], 5  # the fifth token is predicted, not fed


def _continue(session, name, inputs, steps):
    tokens, gaps, top_ids, top_logits, extremes = [], [], [], [], []
    for logits in steps_of(session, inputs, steps, lambda step: tokens[step]):
        order = np.argsort(-logits, axis=-1, kind="stable")[:, :TOP]  # (B, 8)
        best = np.take_along_axis(logits, order, axis=-1)
        tokens.append(order[:, 0].astype("int32"))
        gaps.append(best[:, 0] - best[:, 1] if best.shape[1] > 1 else np.full(len(best), np.inf))
        top_ids.append(order.astype("int32"))
        top_logits.append(best)
        extremes += [logits.min(), logits.max()]
    return Continuation(name, inputs, *(np.stack(each, axis=1) for each in (tokens, gaps, top_ids, top_logits)),
                        spread=np.float32(max(extremes) - min(extremes)))


def steps_of(session, inputs, steps, token_of):
    """Logits (B, V) of each of `steps` steps, feeding `token_of(step)` after it."""
    decoder = decoder_of(session, inputs)
    room = math.inf if decoder.max_sequence_length is None else decoder.max_sequence_length
    free = room - inputs["token_ids"].shape[1]  # the last token may be one that nobody feeds
    logits, state = decoder.prefill(inputs["token_ids"], inputs["padding_mask"], min(steps, free))
    yield logits
    for step in range(steps - 1):
        logits, state = decoder.decode(token_of(step), state)
        yield logits


def decoder_of(session, inputs):
    """What continues the prompts of `inputs`: the session, or, with an encoder, what it makes of the sources."""
    if "encoder_token_ids" not in inputs:
        return session
    return session.read(inputs["encoder_token_ids"], inputs["encoder_padding_mask"])


def save_golden(path, golden):
    """Write to an .npz file of plain arrays."""
    arrays = {}
    for i, case in enumerate(golden.cases):
        arrays[f"case/{i}/name"], arrays[f"case/{i}/per_token"] = np.array(case.name), np.array(case.per_token, "U")
        for side in ("inputs", "outputs"):
            arrays.update({f"case/{i}/{side}/{name}": value for name, value in getattr(case, side).items()})
    for i, continuation in enumerate(golden.continuations):
        for field in dataclasses.fields(continuation):
            if field.name != "inputs":
                arrays[f"continuation/{i}/{field.name}"] = np.asarray(getattr(continuation, field.name))
        arrays.update({f"continuation/{i}/inputs/{name}": value for name, value in continuation.inputs.items()})
    np.savez_compressed(path, **arrays)


def load_golden(path):
    """The inverse of `save_golden`. Raises ValueError naming the file if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError("it would unpack to more than 2 GB")
            for entry in archive.infolist():
                _check_header(archive, entry)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        cases, continuations = {}, {}
        for name, value in arrays.items():
            kind, number, field = name.split("/", 2)
            ({"case": cases, "continuation": continuations}[kind]).setdefault(int(number), {})[field] = value
        return Golden(tuple(_case(cases[i]) for i in sorted(cases)),
                      tuple(_continuation(continuations[i]) for i in sorted(continuations)))
    except Exception as error:  # zip files, compressions and arrays have many kinds of damage, each with its own
        raise ValueError(f"{path} is not a sound set of verification arrays ({error}).") from error


def _check_header(archive, entry):
    """Refuse an array whose header states another size than it has: room for it is made before it is read."""
    with archive.open(entry) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(file)
        if dtype.hasobject or math.prod(shape) * dtype.itemsize != entry.file_size - file.tell():
            raise ValueError(f"{entry.filename} states {shape} of {dtype}, which it does not hold")


def check_golden(golden, task, sizes, path):
    """Refuse answers that no model of a bundle can have given.

    Args:
        golden: a `Golden`.
        task, sizes: the bundle's.
        path: of its file, for the error.

    Raises: ValueError naming the file and the array.
    """
    form = forward_signature(task, sizes)
    asked = tuple(dataclasses.replace(row, optional=False) for row in form.inputs)
    each_token = {row.name for row in form.outputs if "sequence_length" in row.shape}
    source = asked[:2] if task in REWRITING else ()
    try:
        if not golden.cases:
            raise ValueError("it holds no case")
        for case in golden.cases:
            _check_arrays(case.name, asked + form.outputs, {**case.inputs, **case.outputs}, sizes)
            if not set(case.per_token) <= each_token:
                raise ValueError(f"{case.name}: `per_token` must be some of {sorted(each_token)}")
        for each in golden.continuations:
            _check_arrays(each.name, CONTINUATION + source, {
                **each.inputs, "next_token_ids": each.tokens, "gaps": each.gaps, "top_token_ids": each.top_ids,
                "top_logits": each.top_logits, "spread": each.spread}, sizes)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a sound set of verification arrays ({error}).") from error


def _check_arrays(name, rows, arrays, sizes):
    check_inputs(Signature(name, name, rows, ()), arrays, sizes)
    for row in rows:
        if arrays[row.name].dtype != row.dtype:
            raise ValueError(f"{name}: `{row.name}` must be {row.dtype}, found {arrays[row.name].dtype}")


def _case(fields):
    values = _nested(fields)
    return Case(str(values["name"]), values["inputs"], values["outputs"], tuple(map(str, values["per_token"])))


def _continuation(fields):
    values = _nested(fields)
    return Continuation(**{**values, "name": str(values["name"])})


def _nested(fields):
    """Fields named "a/b" as dicts."""
    result = {}
    for name, value in fields.items():
        side, _, key = name.partition("/")
        if key:
            result.setdefault(side, {})[key] = value
        else:
            result[side] = value
    return result
