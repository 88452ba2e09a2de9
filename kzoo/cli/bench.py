"""`kzoo bench`: load time, latency, speed, memory and size of a run, or of every artifact in a bundle."""
import pathlib
import tempfile
import types

from kzoo.cli.options import ABSENT, add_folder, add_json, given, whole_number
from kzoo.cli.output import file_size, print_json, print_table, progress
from kzoo.cli.run import open_model
from kzoo.cli.show import describe
from kzoo.files import write_atomic


def add_commands(add):
    parser = add("bench", bench, "measure loading and speed, in every runtime")
    add_folder(parser, "paths", "RUN_OR_BUNDLE", "runs, checkpoint folders or bundles", nargs="+")
    for name, minimum, meaning in (("prompt-length", 1, "tokens in the prompt"),
                                   ("new-tokens", 2, "tokens to generate"),
                                   ("text-length", 1, "tokens of a text, for models that answer at once"),
                                   ("repeats", 1, "measured runs, after one that is not")):
        parser.add_argument(f"--{name}", type=whole_number(minimum), default=ABSENT, metavar="N", help=meaning)
    parser.add_argument("--html", metavar="FILE", help="also draw it: a page that needs no network")
    add_json(parser)


def bench(args):
    from kzoo.export.latency import describe_speed

    page = None if args.html is None else check_page(args.html)
    options = given(args, ["prompt_length", "new_tokens", "text_length", "repeats"])
    rows = []
    for path in args.paths:
        for runtime, variant, size in candidates(path):
            progress(f"{path}: {runtime} {variant}")
            try:
                found = measure(path, runtime, variant, options)
            except ImportError as error:  # another machine may have the runtime: the rest is measured all the same
                progress(str(error))
                continue
            rows.append({"path": str(path), "runtime": runtime, "variant": variant, "size": size, **found})
    if not rows:
        raise ImportError("None of the runtimes is installed; there is nothing to measure.")
    if page is not None:
        from kzoo.export.report_page import render_bench

        write_atomic(page, render_bench(rows))
    if args.json:
        print_json(rows)
        return
    print_table(["path", "runtime", "variant", "size>", "memory>", "load s>", "first token ms>", "speed>"],
                [(row["path"], row["runtime"], row["variant"], file_size(row["size"]),
                  "" if row["memory"] is None else file_size(row["memory"]), f"{row['load_seconds']:.2f}",
                  f"{1000 * row['first_token_seconds']:.1f}" if "first_token_seconds" in row else "",
                  describe_speed(row)) for row in rows])


def check_page(words):
    """The path of the page to write, before minutes are spent on what it will show."""
    path = pathlib.Path(words)
    if path.suffix not in (".html", ".htm"):
        raise ValueError(f"--html writes a page; give it a name that ends in .html. Received: {words}.")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"--html cannot write {words}: " + (
            "that is a folder." if path.is_dir() else f"there is no folder {path.parent}."))
    return path


def candidates(path):
    """(runtime, variant, bytes) of everything in `path` that can be measured."""
    found = describe(path)
    if found["kind"] == "unfinished run":
        raise ValueError(f"{path} is not finished: `kzoo train ... --resume` goes on with it.")
    if found["kind"] == "bundle":
        return [(row["runtime"], row["variant"], row["size"]) for row in found["artifacts"]]
    weights = sum(size for name, size in found["files"].items() if name.endswith(".safetensors") and "/" not in name)
    return [("live", "none", weights)]


def measure(path, runtime, variant, options):
    """What `kzoo.export.latency.open_and_measure` says; of an artifact, in a process of its own."""
    if runtime == "live":
        from kzoo.cli.start import start_backend
        from kzoo.export.latency import open_and_measure

        start_backend()  # whose memory is no property of the model
        found = open_and_measure(lambda: timed(open_model(path)), **options)
    else:
        from kzoo.export.process import run_worker

        with tempfile.TemporaryDirectory(prefix="kzoo-bench-") as work:
            found = run_worker(f"measuring {runtime} {variant} of {path}", work, command="bench", options=options,
                               bundle=str(pathlib.Path(path).resolve()), runtime=runtime, variant=variant)
    if not {"tokens_per_second", "seconds_per_text"} & set(found):
        raise ValueError(f"{path}: the context is too short to measure.")
    return {name: value for name, value in found.items() if name not in ("seconds", "peak_memory")}


def timed(model):
    """What `kzoo.export.latency.measure` takes of a live model: its decoder, reader or compiled pass."""
    for part in ("decoder", "reader"):
        if hasattr(model, part):
            return getattr(model, part)()
    from kzoo.export.signatures import sizes_of
    from kzoo.tasks.live_answers import LiveRun

    run = LiveRun(model)
    return types.SimpleNamespace(sizes=sizes_of(model), run=lambda signature, inputs: run(inputs))
