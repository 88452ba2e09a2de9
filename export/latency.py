"""How fast a session is: a few short runs, for the report. Benchmarks proper are elsewhere."""
import statistics
import time

import numpy as np

from kzoo.export.memory import watch


def measure(session, prompt_length=32, new_tokens=32, text_length=128, repeats=3):
    """Greedy text generation, or an answer to a text, batch 1.

    Args:
        session: of any runtime.
        prompt_length, new_tokens: of generation, in tokens, cut to what the context holds.
        text_length: of what is answered, in tokens, cut likewise.
        repeats: measured runs; one more runs first and is not counted.

    Returns: dict of medians: first_token_seconds and tokens_per_second, with prompt_length and new_tokens, of a session
        that generates; seconds_per_text, with text_length, of one that answers. Empty if the context is too short.
    """
    if hasattr(session, "per_token"):  # its texts are strings
        return _measure_strings(session, text_length, repeats)
    if not hasattr(session, "prefill") and not hasattr(session, "read"):
        return _measure_answer(session, text_length, repeats)
    context = session.max_sequence_length or 2 * (prompt_length + new_tokens)
    prompt_length = max(min(prompt_length, context // 2), 1)
    new_tokens = min(new_tokens, context - prompt_length)
    if new_tokens < 2:
        return {}
    vocabulary_size = getattr(session, "source_vocabulary_size", session.vocabulary_size)
    prompt = np.random.default_rng(0).integers(0, vocabulary_size, (1, prompt_length)).astype("int32")
    runs = [_run(session, prompt, new_tokens) for _ in range(repeats + 1)][1:]
    return {"prompt_length": prompt_length, "new_tokens": new_tokens,
            "first_token_seconds": statistics.median(first for first, _ in runs),
            "tokens_per_second": statistics.median(speed for _, speed in runs)}


def open_and_measure(open_session, **options):
    """`measure`, with the time to open and the memory of both.

    Args:
        open_session: a function without arguments that returns a session.
        options: for `measure`.

    Returns: as `measure`, with load_seconds, and memory in bytes, None where the system does not say.
    """
    def use():
        start = time.perf_counter()
        session = open_session()
        return {"load_seconds": time.perf_counter() - start, **measure(session, **options)}

    found, memory = watch(use)
    return {**found, "memory": memory}


def _measure_answer(session, length, repeats):
    length = min(length, session.sizes["max_sequence_length"])
    ids = np.random.default_rng(0).integers(0, session.sizes["vocabulary_size"], (1, length)).astype("int32")
    return {"text_length": length, "seconds_per_text": _median_seconds(
        lambda: session.run("forward", {"token_ids": ids}), repeats)}


def _measure_strings(session, length, repeats):
    """As `_measure_answer`, of a text with about as many tokens, a word each as far as the tokenizer knows it."""
    text = " ".join(["the"] * length)
    found = int(session.read([text])["padding_mask"].sum())
    return {"text_length": found, "seconds_per_text": _median_seconds(lambda: session.read([text]), repeats)}


def _median_seconds(function, repeats):
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:])


def _run(session, prompt, new_tokens):
    """(seconds to the first token, tokens a second after it)."""
    start = time.perf_counter()
    if hasattr(session, "read"):  # the prompt is a source
        session = session.read(prompt, np.ones(prompt.shape, bool))
        prompt = np.zeros((1, 1), "int32")
    logits, state = session.prefill(prompt, np.ones(prompt.shape, bool), new_tokens)
    first = time.perf_counter()
    for _ in range(new_tokens - 1):
        logits, state = session.decode(logits.argmax(-1).astype("int32"), state)
    return first - start, (new_tokens - 1) / (time.perf_counter() - first)


def describe_speed(found):
    """What `measure` returned, in two words."""
    if "tokens_per_second" in found:
        return f"{found['tokens_per_second']:,.0f} tokens/s"
    return f"{1000 * found['seconds_per_text']:.1f} ms a text" if found else ""
