"""How fast a session is: a few short runs, for the report. Benchmarks proper are elsewhere."""
import statistics
import time

import numpy as np


def measure(session, prompt_length=32, new_tokens=32, repeats=3):
    """Greedy text generation, batch 1.

    Args:
        session: of any runtime.
        prompt_length, new_tokens: in tokens, cut to what the context holds.
        repeats: measured runs; one more runs first and is not counted.

    Returns: dict of first_token_seconds and tokens_per_second (medians), prompt_length and new_tokens; empty for
        sessions that do not generate.
    """
    if not hasattr(session, "prefill"):
        return {}
    context = session.max_sequence_length
    prompt_length = max(min(prompt_length, context // 2), 1)
    new_tokens = min(new_tokens, context - prompt_length)
    if new_tokens < 2:
        return {}
    prompt = np.random.default_rng(0).integers(0, session.vocabulary_size, (1, prompt_length)).astype("int32")
    runs = [_run(session, prompt, new_tokens) for _ in range(repeats + 1)][1:]
    return {"prompt_length": prompt_length, "new_tokens": new_tokens,
            "first_token_seconds": statistics.median(first for first, _ in runs),
            "tokens_per_second": statistics.median(speed for _, speed in runs)}


def _run(session, prompt, new_tokens):
    """(seconds to the first token, tokens a second after it)."""
    start = time.perf_counter()
    logits, state = session.prefill(prompt, np.ones(prompt.shape, bool), new_tokens)
    first = time.perf_counter()
    for _ in range(new_tokens - 1):
        logits, state = session.decode(logits.argmax(-1).astype("int32"), state)
    return first - start, (new_tokens - 1) / (time.perf_counter() - first)
