"""Does a file that takes strings say what its tokenizer and the file beside it say together?"""
import numpy as np

from kzoo.export.artifact import Artifact, main_file
from kzoo.export.session import first_line, open_session
from kzoo.export.signature_tables import ANSWERS
from kzoo.export.text_forms import CORES, DIFFICULT, wanted_ids


def check_texts(bundle, session, tolerance):
    """(check, function) pairs for `kzoo.export.verify.compare`; a function gives value, limit, passed and note.

    Args:
        bundle: a `kzoo.export.artifact.Bundle`.
        session: on one of its files that take strings.
        tolerance: largest error of an output relative to its spread.
    """
    checks = [(f"ids of {len(DIFFICULT)} difficult texts", lambda: _check_ids(session))]
    if session.task in ANSWERS:
        checks.append(("answers to them", lambda: _check_answers(bundle, session, tolerance)))
    return checks


def _check_ids(session):
    """The ids inside the file, against those of the tokenizer in the bundle."""
    if session.tokenizer is None:
        return None, 0, False, "the bundle holds no tokenizer to compare with"
    wanted = _wanted(session)
    outputs = session.read(list(DIFFICULT))
    found = [row[mask.astype(bool)].tolist() for row, mask in zip(outputs["token_ids"], outputs["padding_mask"],
                                                                  strict=True)]
    wrong = [text for text, one, other in zip(DIFFICULT, wanted, found, strict=True) if one != other]
    return len(wrong), 0, not wrong, f"other ids for {wrong[0]!r:.60}" if wrong else "equal to the tokenizer's"


def _wanted(session):
    # A file that answers cuts texts at what the model reads; what is only tokenized is cut by no file but TFLite's.
    longest = session.sizes["max_sequence_length"] if session.task in ANSWERS else None
    if session.runtime == "tflite-text":
        longest = session.sizes.get("static_length", longest)
    return wanted_ids(session.task, session.tokenizer, DIFFICULT, session.settings.get("eos_id"), longest)


def _check_answers(bundle, session, tolerance):
    """The outputs, against those of the file that takes ids."""
    try:
        core = open_session(bundle, _core(bundle, session))
    except ImportError as error:
        return None, tolerance, None, f"not checked: {first_line(error)}"
    errors = []
    for text, ids in zip(DIFFICULT, _wanted(session), strict=True):
        if not ids:
            continue  # not a token to ask about
        received = session.read([text])
        expected = core.run("forward", {"token_ids": np.array([ids], "int32")})
        for name, value in expected.items():
            actual = received[name][:, :len(ids)] if name in session.per_token else received[name]
            if actual.shape != value.shape:
                return None, tolerance, False, f"{name} has the shape {actual.shape}, expected {value.shape}"
            spread = float(np.ptp(value)) if value.size > 1 else float(np.abs(value).max())
            errors.append(float(np.abs(actual - value).max()) / max(spread, 1e-30))
        if "label" in received and received["label"][0] != session.settings["labels"][int(received["logits"].argmax())]:
            return None, tolerance, False, f"the label {received['label'][0]!r} is not that of the largest logit"
    worst = float(max(errors)) if np.isfinite(errors).all() else None
    return worst, tolerance, worst is not None and worst <= tolerance, f"beside {CORES[session.runtime]}"


def _core(bundle, session):
    """The artifact that takes ids; while a bundle is being made, it lists one artifact alone."""
    runtime = CORES[session.runtime]
    for artifact in bundle.artifacts:
        if (artifact.runtime, artifact.variant) == (runtime, session.variant):
            return artifact
    return Artifact(runtime, session.variant, main_file(runtime, session.variant), ())
