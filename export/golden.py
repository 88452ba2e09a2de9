"""What the live model said: inputs and outputs that every artifact must repeat, kept in the bundle as arrays."""
import dataclasses
import zipfile

import numpy as np

GREEDY_STEPS = 32
TOP = 8  # likeliest tokens recorded at each greedy step
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
    """
    name: str
    inputs: dict
    outputs: dict

    def real(self):
        """bool (B, T): where outputs are compared."""
        return self.inputs["padding_mask"]


@dataclasses.dataclass(frozen=True)
class Continuation:
    """Greedy steps of a batch of prompts.

    Attributes:
        name: for reports.
        token_ids, padding_mask: (B, T), padded on the left.
        tokens: int32 (B, N), the likeliest token at each step, which is fed to the next.
        gaps: float32 (B, N), by how much its logit exceeds the second.
        top_ids, top_logits: (B, N, 8), the likeliest tokens, best first.
        spread: float32 scalar, the largest minus the smallest of all these logits.
    """
    name: str
    token_ids: np.ndarray
    padding_mask: np.ndarray
    tokens: np.ndarray
    gaps: np.ndarray
    top_ids: np.ndarray
    top_logits: np.ndarray
    spread: np.ndarray


@dataclasses.dataclass(frozen=True)
class Golden:
    """The reference of a verification."""
    cases: tuple
    continuations: tuple


def record_golden(session, seed=0):
    """Ask the reference session everything that artifacts will be asked.

    Args:
        session: the live model, as a `KerasSession`.
        seed: of the random token ids.
    """
    random = np.random.default_rng(seed)
    sizes = session.sizes
    cases = []
    for batch, length, side, real in CASES:
        length = min(length, sizes["max_sequence_length"])
        inputs = padded_batch(random, sizes["vocabulary_size"], [min(each, length) for each in real], side)
        outputs = session.run("forward", inputs)
        mask = inputs["padding_mask"]
        outputs = {name: np.where(mask[..., None], value, 0) for name, value in outputs.items()}
        where = "no padding" if side == "none" else f"padded {side}"
        cases.append(Case(f"batch {batch}, length {length}, {where}", inputs, outputs))
    continuations = []
    if hasattr(session, "prefill"):
        for name, lengths, steps in _prompts(sizes["max_sequence_length"]):
            inputs = padded_batch(random, sizes["vocabulary_size"], lengths, "left")
            continuations.append(_continue(session, name, inputs, steps))
    return Golden(tuple(cases), tuple(continuations))


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
    return Continuation(name, inputs["token_ids"], inputs["padding_mask"],
                        *(np.stack(each, axis=1) for each in (tokens, gaps, top_ids, top_logits)),
                        spread=np.float32(max(extremes) - min(extremes)))


def steps_of(session, inputs, steps, token_of):
    """Logits (B, V) of each of `steps` steps, feeding `token_of(step)` after it."""
    free = session.max_sequence_length - inputs["token_ids"].shape[1]  # the last token may be one that nobody feeds
    logits, state = session.prefill(inputs["token_ids"], inputs["padding_mask"], min(steps, free))
    yield logits
    for step in range(steps - 1):
        logits, state = session.decode(token_of(step), state)
        yield logits


def save_golden(path, golden):
    """Write to an .npz file of plain arrays."""
    arrays = {}
    for i, case in enumerate(golden.cases):
        arrays[f"case/{i}/name"] = np.array(case.name)
        for side in ("inputs", "outputs"):
            arrays.update({f"case/{i}/{side}/{name}": value for name, value in getattr(case, side).items()})
    for i, continuation in enumerate(golden.continuations):
        for field in dataclasses.fields(continuation):
            arrays[f"continuation/{i}/{field.name}"] = np.asarray(getattr(continuation, field.name))
    np.savez_compressed(path, **arrays)


def load_golden(path):
    """The inverse of `save_golden`. Raises ValueError naming the file if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_BYTES:
                raise ValueError("it would unpack to more than 2 GB")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        cases, continuations = {}, {}
        for name, value in arrays.items():
            kind, number, field = name.split("/", 2)
            ({"case": cases, "continuation": continuations}[kind]).setdefault(int(number), {})[field] = value
        return Golden(tuple(_case(cases[i]) for i in sorted(cases)),
                      tuple(_continuation(continuations[i]) for i in sorted(continuations)))
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, MemoryError, EOFError) as error:
        raise ValueError(f"{path} is not a sound set of verification arrays ({error}).") from error


def _case(fields):
    sides = {"inputs": {}, "outputs": {}}
    for name, value in fields.items():
        if name != "name":
            side, key = name.split("/")
            sides[side][key] = value
    return Case(str(fields["name"]), **sides)


def _continuation(fields):
    return Continuation(**{**fields, "name": str(fields["name"])})
