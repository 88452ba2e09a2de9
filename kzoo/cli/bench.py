"""`kzoo bench`: load time, latency, speed and size of a run, or of every artifact in a bundle."""
import time
import types

from kzoo.cli.options import ABSENT, add_folder, add_json, given, whole_number
from kzoo.cli.output import file_size, print_json, print_table, progress
from kzoo.cli.run import open_model
from kzoo.cli.show import describe


def add_commands(add):
    parser = add("bench", bench, "measure loading and speed, in every runtime")
    add_folder(parser, "paths", "RUN_OR_BUNDLE", "runs, checkpoint folders or bundles", nargs="+")
    for name, minimum, meaning in (("prompt-length", 1, "tokens in the prompt"),
                                   ("new-tokens", 2, "tokens to generate"),
                                   ("text-length", 1, "tokens of a text, for models that answer at once"),
                                   ("repeats", 1, "measured runs, after one that is not")):
        parser.add_argument(f"--{name}", type=whole_number(minimum), default=ABSENT, metavar="N", help=meaning)
    add_json(parser)


def bench(args):
    from kzoo.export.latency import describe_speed

    options = given(args, ["prompt_length", "new_tokens", "text_length", "repeats"])
    rows = []
    for path in args.paths:
        for runtime, variant, size in candidates(path):
            progress(f"{path}: {runtime} {variant}")
            choice = {} if runtime == "live" else {"runtime": runtime, "variant": variant}
            try:
                found = measure(path, choice, options)
            except ImportError as error:  # another machine may have the runtime: the rest is measured all the same
                progress(str(error))
                continue
            rows.append({"path": str(path), "runtime": runtime, "variant": variant, "size": size, **found})
    if not rows:
        raise ImportError("None of the runtimes is installed; there is nothing to measure.")
    if args.json:
        print_json(rows)
        return
    print_table(["path", "runtime", "variant", "size>", "load s>", "first token ms>", "speed>"],
                [(row["path"], row["runtime"], row["variant"], file_size(row["size"]), f"{row['load_seconds']:.2f}",
                  f"{1000 * row['first_token_seconds']:.1f}" if "first_token_seconds" in row else "",
                  describe_speed(row)) for row in rows])


def candidates(path):
    """(runtime, variant, bytes) of everything in `path` that can be measured."""
    found = describe(path)
    if found["kind"] == "unfinished run":
        raise ValueError(f"{path} is not finished: `kzoo train ... --resume` goes on with it.")
    if found["kind"] == "bundle":
        return [(row["runtime"], row["variant"], row["size"]) for row in found["artifacts"]]
    weights = sum(size for name, size in found["files"].items() if name.endswith(".safetensors") and "/" not in name)
    return [("live", "none", weights)]


def measure(path, choice, options):
    """load_seconds, and what `kzoo.export.latency.measure` says of the open model or session."""
    from kzoo.export import latency

    start = time.perf_counter()
    model = open_model(path, **choice)
    load_seconds = time.perf_counter() - start
    found = latency.measure(timed(model), **options)
    if not found:
        raise ValueError(f"{path}: the context is too short to measure.")
    return {"load_seconds": load_seconds, **found}


def timed(model):
    """What `kzoo.export.latency.measure` takes: a session; of a live model its decoder, reader or compiled pass."""
    for part in ("decoder", "reader"):
        if hasattr(model, part):
            return getattr(model, part)()
    if not hasattr(model, "backbone"):
        return model
    from kzoo.export.signatures import sizes_of
    from kzoo.tasks.live_answers import LiveRun

    run = LiveRun(model)
    return types.SimpleNamespace(sizes=sizes_of(model), run=lambda signature, inputs: run(inputs))
