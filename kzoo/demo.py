"""The main job end to end: train a small GPT-2, export it everywhere, verify, generate, report.

The text is the source of the Python standard library, which every machine that runs this has.
"""
import pathlib
import sys
import sysconfig
import time

from kzoo.errors import CheckFailed
from kzoo.files import atomic_folder, write_atomic

# Sized for two cores: under two minutes of training, and a loss that is well below that of guessing.
MODEL = "gpt2-nano"
SIZES = {"max_sequence_length": 128, "hidden_dim": 128, "num_layers": 4, "num_heads": 4, "dropout": 0.0}
TRAINING = {"tokenizer": "byte-bpe", "vocabulary_size": 1024, "batch_size": 16, "steps": 500, "interval": 125,
            "learning_rate": 2e-3, "warmup_steps": 60, "validation_split": 0.05}
CHARACTERS = 3_000_000
PROMPTS = ("def __init__(self", "import", "    for name in")
# Greedy, so that every runtime must agree; so small a model would otherwise repeat itself.
GENERATION = {"max_new_tokens": 48, "repetition_penalty": 1.2}
RUNTIMES = ("savedmodel", "onnx", "tflite")


def demo(out="demo", training=None, prompts=PROMPTS):
    """Train, export, verify, generate with every runtime, and write `report.html`.

    Args:
        out: the folder to make; an earlier demo there is replaced.
        training: options of `kzoo.train` that differ from the demo's own.
        prompts: texts that every runtime continues.

    Returns: path of the report.
    Raises: CheckFailed if an artifact fails its verification, or a runtime continues a prompt differently;
        FileExistsError if `out` holds something other than a demo.
    """
    from kzoo.export import export
    from kzoo.training.trainer import train

    out = pathlib.Path(out)
    if out.exists() and any(out.iterdir()) and not (out / "report.html").is_file():
        raise FileExistsError(f"{out} exists and is not an earlier demo. Choose another folder with --out.")
    started = time.monotonic()
    with atomic_folder(out, overwrite=True) as folder:
        _say(1, "collecting text from the Python standard library")
        data = folder / "text.txt"
        write_atomic(data, standard_library_text(CHARACTERS))
        _say(2, f"training {MODEL}")
        run = train(MODEL, data, folder / "run", overrides=SIZES, **{**TRAINING, **(training or {})})
        _say(3, "exporting and verifying each file in its own runtime")
        bundle = export(run.model, folder / "bundle", formats=RUNTIMES,
                        progress=lambda line: print(line.replace(str(folder), str(out)), file=sys.stderr, flush=True))
        _say(4, "generating with the model and with every file")
        samples = [sample for prompt in prompts for sample in continue_everywhere(run.model, bundle, prompt)]
        write_report(folder, bundle, run.results["history"], samples)
    print(f"Done in {time.monotonic() - started:.0f} s. Open {out / 'report.html'}", file=sys.stderr)
    return out / "report.html"


def standard_library_text(characters):
    """About so much source text, whole modules in the order of their names."""
    parts, size = [], 0
    for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore").replace("\0", "")
        parts.append(text)
        size += len(text)
        if size >= characters:
            break
    return "".join(parts)


def continue_everywhere(model, bundle, prompt):
    """The same continuation from the live model and from every artifact, as rows for the report.

    Raises: CheckFailed naming the runtime whose text differs.
    """
    from kzoo.export import open_bundle

    expected = model.generate(prompt, **GENERATION)
    rows = [{"prompt": prompt, "text": expected, "source": "keras"}]
    for runtime in RUNTIMES:
        text = open_bundle(bundle, runtime=runtime).generate(prompt, **GENERATION)
        if text != expected:
            raise CheckFailed(f"{runtime} continues {prompt!r} as {text!r}; the model says {expected!r}.")
        rows.append({"prompt": prompt, "text": text, "source": runtime})
    return rows


def write_report(folder, bundle, history, samples):
    """The bundle's report with the loss curve and the samples."""
    from kzoo.export import render_report

    curve = [{"step": row["step"], "loss": row["loss"], "validation_loss": row.get("valid_loss")} for row in history]
    page = render_report(bundle.manifest, history=curve, samples=samples)
    write_atomic(pathlib.Path(folder) / "report.html", page)


def _say(step, text):
    print(f"[{step}/4] {text}", file=sys.stderr, flush=True)
