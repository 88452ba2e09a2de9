"""Does every artifact say what the model says? The gate that an export must pass.

Errors of an output are maximal absolute differences divided by the spread of the reference's values in the same batch:
the largest minus the smallest at real tokens. (Trained logits have a large common offset, which float32 rounds; the
spread is what it is measured against.)
"""
import dataclasses
import math
import pathlib
import tempfile

import numpy as np

from kzoo.errors import unknown
from kzoo.export.artifact import GOLDEN, PATHS, main_file, read_bundle, stray_problem
from kzoo.export.audit import audit
from kzoo.export.golden import check_golden, decoder_of, load_golden, record_golden, save_golden, steps_of
from kzoo.export.process import run_worker
from kzoo.export.session import first_line, open_session
from kzoo.export.signature_tables import MERGED
from kzoo.export.text_forms import reads_text
from kzoo.export.text_verify import check_texts

TIMEOUT = 3600.0  # seconds for one artifact; a damaged file may keep its runtime busy for ever

# Variant -> largest error of logits relative to their spread, and whether greedy tokens must be equal.
TOLERANCES = {
    "none": (1e-4, True),
    "fp16": (5e-3, False),
    "int8": (0.1, False),
    "int4": (0.4, False),
    "int8_full": (0.4, False),
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


def verify(bundle, model=None, runtimes=None, variants=None, timeout=TIMEOUT):
    """Open every artifact of a bundle in its own runtime and compare it with the model.

    Each runs in a process of its own: what a hostile file makes of its runtime, a crash or a wait without end, is a
    failed row.

    Args:
        bundle: the folder.
        model: the live model to compare with; None replays the answers it gave when the bundle was written.
        runtimes, variants: only these; None means all.
        timeout: seconds that the checks of one artifact may take.

    Returns: a `Report`. A runtime that is not installed has one row that says so and passed = None.
    Raises: FileNotFoundError or ValueError if the folder is no sound bundle.
    """
    bundle = read_bundle(bundle)
    for kind, names, known in (("runtime", runtimes, PATHS), ("variant", variants, TOLERANCES)):
        for name in names or ():
            if name not in known:
                raise ValueError(unknown(kind, name, known))
    rows, broken = check_bundle_files(bundle)
    with tempfile.TemporaryDirectory(prefix="kzoo-verify-") as work:
        golden = _golden_file(bundle, model, pathlib.Path(work))
        for artifact in bundle.artifacts:
            if (runtimes and artifact.runtime not in runtimes) or (variants and artifact.variant not in variants):
                continue
            if broken & {*bundle.shared_files(), *artifact.files, *bundle.strays([artifact])}:
                rows.append(_row(artifact.name, "opens", None, None, None, "not checked: its files are damaged"))
            else:
                rows += _verify_apart(bundle, artifact, golden, pathlib.Path(work, "worker"), timeout)
    return Report(rows)


def _golden_file(bundle, model, work):
    """Where the answers are that artifacts are compared with: those in the bundle, or the live model's."""
    if model is not None:
        from kzoo.export.keras_session import live_session

        save_golden(work / GOLDEN, record_golden(live_session(model, bundle.sizes)))
        return work / GOLDEN
    if GOLDEN not in bundle.files:
        raise ValueError(f"{bundle.folder} has no {GOLDEN}; pass the live model as `model`.")
    bundle.check_files([GOLDEN])
    place = bundle.folder.resolve() / GOLDEN
    check_golden(load_golden(place), bundle.task, bundle.sizes, place)
    return place


def check_bundle_files(bundle):
    """(rows, paths) on sizes and hashes: a row for each file that is not as the manifest says, or one for all."""
    found = {path: bundle.file_problem(path) for path in bundle.files}
    found.update((path, stray_problem(path)) for path in bundle.strays())
    problems = {path: problem for path, problem in found.items() if problem}
    if not problems:
        return [_row("bundle", "files", len(bundle.files), None, True, "sizes and hashes are the manifest's")], set()
    return [_row("bundle", "files", None, None, False, problem) for problem in problems.values()], set(problems)


def _verify_apart(bundle, artifact, golden, work, timeout):
    """The rows of `verify_artifact`, from a process of its own."""
    try:
        return run_worker(f"verifying {artifact.name}", work, timeout, command="check", artifact=artifact.spec(),
                          manifest=bundle.manifest, bundle=str(bundle.folder.resolve()), golden=str(golden),
                          timed=False)["rows"]
    except Exception as error:  # a crash, memory that ran out: whatever became of the process is said in its row
        return [_row(artifact.name, "opens and answers", None, None, False, " ".join(str(error).split())[:500])]


def verify_artifact(bundle, artifact, golden):
    """Rows of one artifact: it opens, answers as the model did, and is made of what it may be made of."""
    session, rows = open_artifact(bundle, artifact)
    rows += compare_artifact(bundle, artifact, golden, session) if session else []
    return rows + audit_artifact(bundle, artifact)[0]


def open_artifact(bundle, artifact):
    """(session, rows): the session is None, and a row says why, if the artifact does not open here."""
    try:
        return open_session(bundle, artifact), []
    except ImportError as error:
        return None, [_row(artifact.name, "opens", None, None, None, f"not checked: {first_line(error)}")]
    except ValueError as error:
        return None, [_row(artifact.name, "opens", None, None, False, str(error))]


def audit_artifact(bundle, artifact):
    """(rows, record) of `kzoo.export.audit.audit`."""
    found = audit(bundle, artifact)
    return [_row(artifact.name, *check) for check in found.checks], found.record


def compare_artifact(bundle, artifact, golden, session):
    """Rows of `compare`, for every form in which the artifact holds the model."""
    if reads_text(artifact.runtime):
        tolerance, _ = TOLERANCES[session.variant]
        return _run(artifact.name, [("names, shapes, dtypes", lambda: _check_description(session)),
                                    *check_texts(bundle, session, tolerance)])
    rows = compare(golden, session, artifact.name)
    if main_file("onnx", artifact.variant, MERGED.file_name) in artifact.files:
        try:
            found = compare(golden, open_session(bundle, artifact, merged=True), artifact.name)
        except ValueError as error:
            found = [_row(artifact.name, "opens", None, None, False, str(error))]
        rows += [{**row, "check": f"decoders merged: {row['check']}"} for row in found]
    return rows


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
        # Where a memory forgets, it may matter how a text is cut.
        longest = session.sizes.get("memory_length", math.inf)
        long = [case for case in golden.cases if 2 < case.prompts()["token_ids"].shape[1] <= longest]
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
        if not rows[0]["passed"]:
            break  # it does not take what the other checks would give it
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
    begins = "prefill" in session.file_signatures
    return form is not None and begins and "sequence_length" in form.inputs[0].shape


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
