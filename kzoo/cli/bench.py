"""`kzoo bench`: latency, speed, load time and size of a run, or of every artifact in a bundle."""
import statistics
import time

from kzoo.cli.options import ABSENT, add_folder, add_json, given, whole_number
from kzoo.cli.output import file_size, print_json, print_table, progress
from kzoo.cli.run import open_model
from kzoo.cli.show import describe


def add_commands(add):
    parser = add("bench", bench, "measure loading, first token and tokens per second, in every runtime")
    add_folder(parser, "paths", "RUN_OR_BUNDLE", "runs, checkpoint folders or bundles", nargs="+")
    for name, meaning in (("prompt-length", "tokens in the prompt"), ("new-tokens", "tokens to generate"),
                          ("repeats", "measured runs, after one that is not")):
        parser.add_argument(f"--{name}", type=whole_number(1 if name != "new-tokens" else 2), default=ABSENT,
                            metavar="N", help=meaning)
    add_json(parser)


def bench(args):
    options = given(args, ["prompt_length", "new_tokens", "repeats"])
    rows = []
    for path in args.paths:
        for runtime, variant, size in candidates(path):
            progress(f"{path}: {runtime} {variant}")
            choice = {} if runtime == "live" else {"runtime": runtime, "variant": variant}
            rows.append({"path": str(path), "runtime": runtime, "variant": variant, "size": size,
                         **measure(lambda path=path, choice=choice: open_model(path, **choice), **options)})
    if args.json:
        print_json(rows)
        return
    print_table(["path", "runtime", "variant", "size>", "load s>", "first token ms>", "tokens/s>"],
                [(row["path"], row["runtime"], row["variant"], file_size(row["size"]), f"{row['load_seconds']:.2f}",
                  f"{1000 * row['first_token_seconds']:.1f}", f"{row['tokens_per_second']:.1f}") for row in rows])


def candidates(path):
    """(runtime, variant, bytes) of everything in `path` that can be measured."""
    found = describe(path)
    if found["kind"] != "bundle":
        weights = sum(size for name, size in found["files"].items() if name.endswith(".safetensors"))
        return [("live", "none", weights)]
    if found["task"] != "text-generation":
        raise ValueError(f"{path} serves {found['task']!r}; `kzoo bench` measures text generation.")
    return [(row["runtime"], row["variant"], row["size"]) for row in found["artifacts"]]


def measure(open_it, prompt_length=32, new_tokens=64, repeats=5):
    """Open a model or session once, then generate greedily, batch 1.

    Args:
        open_it: called without arguments; returns something with `generate`.
        prompt_length, new_tokens: in tokens, cut to what the context holds.
        repeats: measured runs; one more runs first, unmeasured, so that compilation is not counted.

    Returns: dict of load_seconds, first_token_seconds and tokens_per_second (after the first); medians of the runs.
    """
    start = time.perf_counter()
    model = open_it()
    load_seconds = time.perf_counter() - start
    context = _sizes(model)[1]
    prompt_length = min(prompt_length, max(1, context // 2))
    new_tokens = max(2, min(new_tokens, context - prompt_length))
    prompt = [(7 * i) % _sizes(model)[0] for i in range(1, prompt_length + 1)]
    runs = [_generate(model, prompt, new_tokens) for _ in range(repeats + 1)][1:]
    return {"prompt_length": prompt_length, "new_tokens": new_tokens, "load_seconds": load_seconds,
            "first_token_seconds": statistics.median(run[0] for run in runs),
            "tokens_per_second": statistics.median(run[1] for run in runs)}


def _generate(model, prompt, new_tokens):
    """(seconds to the first token, tokens per second after it) of one run."""
    times = []
    start = time.perf_counter()
    model.generate(prompt, stream=lambda token: times.append(time.perf_counter()),
                   max_new_tokens=new_tokens, min_new_tokens=new_tokens)
    if len(times) < 2:
        raise ValueError(f"The model made {len(times)} of {new_tokens} tokens; there is no speed to measure.")
    return times[0] - start, (len(times) - 1) / (times[-1] - times[0])


def _sizes(model):
    """(vocabulary_size, max_sequence_length) of a live model or a session."""
    return tuple(getattr(model, name, None) or getattr(model.config, name)
                 for name in ("vocabulary_size", "max_sequence_length"))
