"""Does every artifact say what the model says? The gate that an export must pass.

Errors of an output are maximal absolute differences divided by the spread of the reference's values in the same batch:
the largest minus the smallest at real tokens. (Trained logits have a large common offset, which float32 rounds; the
spread is what it is measured against.)
"""
import contextlib
import dataclasses
import math

import numpy as np

from kzoo.errors import unknown
from kzoo.export.artifact import GOLDEN, PATHS, read_bundle
from kzoo.export.golden import decoder_of, load_golden, record_golden, steps_of
from kzoo.export.session import first_line, open_session
from kzoo.export.text_forms import reads_text
from kzoo.export.text_verify import check_texts

# Variant -> largest error of logits relative to their spread, and whether greedy tokens must be equal.
TOLERANCES = {
    "none": (1e-4, True),
    "fp16": (5e-3, False),
    "int8": (0.1, False),
    "int4": (0.4, False),
}


@dataclasses.dataclass
class Report:
    """The result of a verification.

    Attributes:
        rows: dicts of `artifact`, `check`, `value`, `limit`, `passed` (None: could not be run here) and `note`.
    """
    rows: list

    @property
    def passed(self):
        """At least one check ran, and none failed."""
        ran = [row for row in self.rows if row["passed"] is not None]
        return bool(ran) and all(row["passed"] for row in ran)

    def failures(self):
        return [row for row in self.rows if row["passed"] is False]


def verify(bundle, model=None, runtimes=None, variants=None):
    """Open every artifact of a bundle in its own runtime and compare it with the model.

    Args:
        bundle: the folder.
        model: the live model to compare with; None replays the answers it gave when the bundle was written.
        runtimes, variants: only these; None means all.

    Returns: a `Report`. A runtime that is not installed has one row that says so and passed = None.
    Raises: FileNotFoundError or ValueError if the folder is no sound bundle.
    """
    bundle = read_bundle(bundle)
    for kind, names, known in (("runtime", runtimes, PATHS), ("variant", variants, TOLERANCES)):
        for name in names or ():
            if name not in known:
                raise ValueError(unknown(kind, name, known))
    if any(artifact.runtime == "onnx-text" for artifact in bundle.artifacts):
        with contextlib.suppress(ImportError):  # before another file's runtime loads TensorFlow
            import kzoo.export.onnx_text_session  # noqa: F401
    rows = check_bundle_files(bundle)
    if model is None:
        if GOLDEN not in bundle.files:
            raise ValueError(f"{bundle.folder} has no {GOLDEN}; pass the live model as `model`.")
        bundle.check_files([GOLDEN])
        golden = load_golden(bundle.folder / GOLDEN)
    else:
        from kzoo.export.keras_session import live_session

        golden = record_golden(live_session(model))
    broken = {row["note"].split(" ", 1)[0] for row in rows if row["passed"] is False}
    for artifact in bundle.artifacts:
        if (runtimes and artifact.runtime not in runtimes) or (variants and artifact.variant not in variants):
            continue
        if broken & {str(bundle.folder / path) for path in artifact.files}:
            continue  # damaged on the disk: it is not opened
        rows += verify_artifact(bundle, artifact, golden)[0]
    return Report(rows)


def check_bundle_files(bundle):
    """Rows on sizes and hashes: one for each damaged file, or one for all."""
    problems = [problem for problem in map(bundle.file_problem, bundle.files) if problem]
    if not problems:
        return [_row("bundle", "files", len(bundle.files), None, True, "sizes and hashes are the manifest's")]
    return [_row("bundle", "files", None, None, False, problem) for problem in problems]


def verify_artifact(bundle, artifact, golden):
    """(rows, session) of one artifact; the session is None if it did not open."""
    try:
        session = open_session(bundle, artifact)
    except ImportError as error:
        return [_row(artifact.name, "opens", None, None, None, f"not checked: {first_line(error)}")], None
    except ValueError as error:
        return [_row(artifact.name, "opens", None, None, False, str(error))], None
    if reads_text(artifact.runtime):
        tolerance, _ = TOLERANCES[session.variant]
        return _run(artifact.name, [("names, shapes, dtypes", lambda: _check_description(session)),
                                    *check_texts(bundle, session, tolerance)]), session
    return compare(golden, session, artifact.name), session


def compare(golden, session, name=None):
    """Rows on one session, against a reference.

    Args:
        golden: a `Golden`, or the reference session.
        session: the candidate.
        name: of the candidate in the rows.
    """
    if not hasattr(golden, "cases"):
        golden = record_golden(golden)
    name = name or (session.runtime if session.variant == "none" else f"{session.runtime} {session.variant}")
    if session.variant not in TOLERANCES:
        raise ValueError(unknown("variant", session.variant, TOLERANCES))
    tolerance, exact = TOLERANCES[session.variant]
    checks = [("names, shapes, dtypes", lambda: _check_description(session))]
    checks += [(f"{', '.join(case.outputs)}: {case.name}", lambda case=case: _check_case(session, case, tolerance))
               for case in golden.cases]
    if not golden.continuations and golden.cases:
        case, longest = golden.cases[-1], session.sizes["max_sequence_length"]
        length = case.inputs["padding_mask"].shape[1]
        checks += [(f"padded to {width}", lambda width=width: _check_padding(session, case, tolerance, width))
                   for width in (length + 1, 4 * length) if width <= longest]
    if golden.continuations:
        long = [case for case in golden.cases if case.prompts()["token_ids"].shape[1] > 2]
        for case in long:
            checks.append((f"cached = uncached: {case.name}",
                           lambda case=case: _check_cached(session, case, tolerance)))
        if long and _has_free_decode(session):
            checks.append(("cached, several tokens a call", lambda: _check_pieces(session, long[0], tolerance)))
        if long:
            checks.append(("cached, rows selected and repeated",
                           lambda: _check_reorder(session, long[-1], tolerance)))
        for each in golden.continuations:
            checks.append((each.name, lambda each=each: _check_continuation(session, each, tolerance, exact)))
    return _run(name, checks)


def _run(name, checks):
    """Rows of (check, function) pairs."""
    rows = []
    for check, function in checks:
        try:
            rows.append(_row(name, check, *function()))
        except Exception as error:  # an artifact that breaks in use has failed, whatever the runtime raises
            rows.append(_row(name, check, None, None, False, f"{type(error).__name__}: {first_line(error)}"))
    return rows


def _row(artifact, check, value, limit, passed, note):
    return {"artifact": artifact, "check": check, "value": value, "limit": limit,
            "passed": None if passed is None else bool(passed), "note": note}


def _check_description(session):
    """Names, shapes and dtypes that the file states, against the signature table."""
    problems = session.differences()
    if problems:
        more = f", and {len(problems) - 3} more" if len(problems) > 3 else ""
        return len(problems), 0, False, "; ".join(problems[:3]) + more
    return 0, 0, True, f"{len(session.described() or ())} signatures"


def _check_case(session, case, tolerance):
    outputs = session.run("forward", case.inputs)
    missing = [name for name in case.outputs if name not in outputs]
    if missing:
        return None, tolerance, False, f"the output {missing[0]!r} is missing"
    errors, cosines = [], []
    for name, expected in case.outputs.items():
        if outputs[name].shape != expected.shape:
            return None, tolerance, False, f"{name} has the shape {outputs[name].shape}, expected {expected.shape}"
        errors.append(_error(case.real(name, outputs[name]), case.real(name), _spread(case, name)))
        cosines.append(_cosine(case.real(name, outputs[name]), case.real(name)))
    return _judge(max(errors), tolerance, "" if session.variant == "none" else f"cosine {min(cosines):.6f}")


def _check_padding(session, case, tolerance, width):
    """The same texts with more padding behind them, as a batch with a longer one would have."""
    length = case.inputs["padding_mask"].shape[1]
    inputs = {name: np.pad(array, ((0, 0), (0, width - length))) for name, array in case.inputs.items()}
    outputs = session.run("forward", inputs)
    errors = []
    for name, expected in case.outputs.items():
        found = outputs[name][:, :length] if name in case.per_token else outputs[name]
        errors.append(_error(case.real(name, found), case.real(name, expected), _spread(case, name)))
    return _judge(max(errors), tolerance, f"{width - length} columns more")


def _check_cached(session, case, tolerance):
    """The reference's logits, reached by prefill and decode from several points on."""
    inputs, expected = case.prompts(), case.outputs["logits"]
    rows = np.flatnonzero(inputs["padding_mask"][:, -1])  # a prompt that ends in padding cannot be continued
    inputs, expected = {name: value[rows] for name, value in inputs.items()}, expected[rows]
    token_ids, mask = inputs["token_ids"], inputs["padding_mask"]
    length = token_ids.shape[1]
    first = int(np.argmax(mask, axis=1).max()) + 1  # every row has begun
    errors = []
    starts = sorted({first, (first + length) // 2, length - 1})
    for start in starts:
        begun = {**inputs, "token_ids": token_ids[:, :start], "padding_mask": mask[:, :start]}
        steps = steps_of(session, begun, length - start + 1, lambda step, start=start: token_ids[:, start + step])
        errors += [_error(logits, expected[:, start - 1 + step], _spread(case)) for step, logits in enumerate(steps)]
    return _judge(max(errors), tolerance, f"past lengths {starts[0]} to {length - 1}")


def _has_free_decode(session):
    form = session.file_signatures.get("decode")
    return form is not None and "sequence_length" in form.inputs[0].shape


def _check_pieces(session, case, tolerance):
    """`prefill`, then `decode` with several tokens at once, through the raw signatures."""
    token_ids, mask = case.inputs["token_ids"], case.inputs["padding_mask"]
    half = token_ids.shape[1] // 2
    first = session.run("prefill", {"token_ids": token_ids[:, :half], "padding_mask": mask[:, :half]})
    cache = {name: value for name, value in first.items() if name.startswith("cache_")}
    second = session.run("decode", {"token_ids": token_ids[:, half:], "padding_mask": mask, **cache})
    logits = np.concatenate([first["logits"], second["logits"]], axis=1)
    return _judge(_error(logits[mask], case.outputs["logits"][mask], _spread(case)), tolerance,
                  f"{half} tokens, then {token_ids.shape[1] - half}")


def _check_reorder(session, case, tolerance):
    """Rows of the cache, selected and repeated as beams do."""
    inputs = case.prompts()
    token_ids, mask, decoder = inputs["token_ids"], inputs["padding_mask"], decoder_of(session, inputs)
    rows = [len(mask) - 1, 0, 0]
    _, state = decoder.prefill(token_ids[:, :-1], mask[:, :-1], 1)
    logits, _ = decoder.decode(token_ids[rows, -1], decoder.reorder(state, np.array(rows)))
    return _judge(_error(logits, case.outputs["logits"][rows, -1], _spread(case)), tolerance, f"rows {rows}")


def _check_continuation(session, each, tolerance, exact):
    """The reference's greedy tokens, each fed on; equal at every step means equal when generated freely."""
    limit = tolerance * max(float(each.spread), 1e-30)  # of the absolute error of a logit
    steps = each.tokens.shape[1]
    chosen, errors = [], []
    for step, logits in enumerate(steps_of(session, each.inputs, steps, lambda step: each.tokens[:, step])):
        chosen.append(logits.argmax(-1))
        best = np.take_along_axis(logits, each.top_ids[:, step], axis=-1)
        errors.append(float(np.abs(best - each.top_logits[:, step]).max()) if np.isfinite(logits).all() else math.inf)
    chosen = np.stack(chosen, axis=1)
    # Where the two likeliest logits are closer than the allowed error of both, either choice is right.
    decided = each.gaps > 2 * limit
    wrong = decided & (chosen != each.tokens)
    ties = int((~decided).sum())
    note = f"{steps} tokens a prompt, error of the top logits {max(errors) * tolerance / limit:.1e} of their spread"
    if ties:
        note += f"; {ties} of {decided.size} near ties (gap below {2 * limit:.1e}) not compared"
    if wrong.any():
        row, step = np.argwhere(wrong)[0]
        note += f"; prompt {row}, step {step}: token {chosen[row, step]}, expected {each.tokens[row, step]}"
    passed = max(errors) <= limit and (not wrong.any() or not exact)
    if not exact:
        note += "; equality is not required of a quantised variant"
    return int(wrong.sum()), 0 if exact else None, passed, note


def _spread(case, name="logits"):
    """Largest minus smallest value of a reference output at real tokens; of a single value, its size."""
    real = case.real(name)
    return max(float(real.max() - real.min() if real.size > 1 else np.abs(real).max()), 1e-30)


def _error(actual, expected, spread):
    if actual.shape != expected.shape:
        raise ValueError(f"logits have the shape {actual.shape}, expected {expected.shape}")
    if not np.isfinite(actual).all():
        return math.inf
    return float(np.abs(actual.astype("float64") - expected).max()) / spread


def _cosine(actual, expected):
    actual, expected = (np.asarray(each, "float64").ravel() for each in (actual, expected))
    return float(actual @ expected / max(np.linalg.norm(actual) * np.linalg.norm(expected), 1e-30))


def _judge(error, tolerance, note=""):
    if math.isinf(error):
        return None, tolerance, False, "logits are not finite" + (f"; {note}" if note else "")
    return error, tolerance, error <= tolerance, note
