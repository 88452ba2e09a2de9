"""The recipe of multi30k.py in fairseq, the program of the published run: what does it give when it is run again?

    python benchmarks/multi30k_fairseq.py --fairseq PYTHON --data DIR --resume        # the folder of multi30k.py

PYTHON must find fairseq 0.9.0, from which the published run's program was made, and torch. With today's torch and numpy
its source (PyPI has no wheel) needs four changes before `python setup.py build_ext --inplace`: C++17 in setup.py;
`libnat` and `setup_requires` left out there; `float` for `np.float` in indexed_dataset.py; and rounding_mode="floor" in
the torch.div of search.py. Training takes two to three hours on two cores; killed at any moment it goes on with
`--resume`.
"""
import gzip
import math
import os
import re
import shutil
import subprocess
import sys

import bench
import multi30k
import recipe

TITLE = "Multi30k English to German, the same recipe in fairseq"
DATA = multi30k.DATA
PARTS = {"train": "train", "valid": "valid", "test": "test.2016"}  # fairseq's name -> the data's
CONTENDERS = bench.HERE / "contenders"
ARCHITECTURE = (CONTENDERS / "fairseq_tiny.py").with_suffix("")  # as fairseq wants it, the name of a module
OPTIONS = {"task": "translation", "arch": "transformer_tiny", "share-all-embeddings": True, "dropout": 0.3,
           "optimizer": "adam", "adam-betas": "(0.9, 0.98)", "lr-scheduler": "inverse_sqrt", "warmup-init-lr": 1e-7,
           "warmup-updates": 2000, "lr": 0.005, "criterion": "label_smoothed_cross_entropy", "label-smoothing": 0.1,
           "max-tokens": 4096, "update-freq": 2, "max-update": 8000}
TOY = {"max-tokens": 256, "warmup-updates": 2, "max-update": 4}
TOY_ROWS = 40
QUIET = {"no-progress-bar": True, "log-interval": 1000, "num-workers": 0}
PATIENCE, AVERAGED = 10, 10  # epochs
VALIDATION = re.compile(r"epoch \d+ \| valid on 'valid' subset \| loss (\S+) \| nll_loss (\S+) .*num_updates (\d+)")
SCORE = re.compile(r"BLEU4 = (\S+), .*\(BP=([\d.]+),")
TEXT = ("fairseq 0.9.0 with the options of the published run's program, on the processor: its batches, its Adam, its "
        "weights to begin with, its patience of 10 epochs by the smoothed validation loss, its mean of the last 10 "
        "epochs' weights, its beams and its BLEU. The published run had two GPUs in place of two batches an update, so "
        "it drew otherwise; it got 41.02 on test2016. Losses are without smoothing, as in the rows of kzoo.")


def main():
    parser = bench.options(TITLE, data=DATA)
    parser.add_argument("--fairseq", metavar="PYTHON", required=True, help="interpreter that finds fairseq 0.9.0")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="default: fairseq's own, 1")
    parser.add_argument("--resume", action="store_true", help="go on with a run that was interrupted")
    args = parser.parse_args()
    packed = {part: [f"{name}.{language}.gz" for language in multi30k.LANGUAGES] for part, name in PARTS.items()}
    folder = bench.need_data(args, *(name for names in packed.values() for name in names))
    started = bench.machine.describe()
    work = recipe.work("multi30k_fairseq", args)
    binary, run = work / "binary", work / recipe.RUN / f"seed-{args.seed}"
    if not binary.exists():
        prepare(args.fairseq, folder, packed, work / "text", binary, TOY_ROWS if args.toy else None)
    losses = train(args.fairseq, binary, run, {**OPTIONS, **(TOY if args.toy else {}), "seed": args.seed})
    last = ended_at([smoothed for _, smoothed, _ in losses]) or len(losses)
    mean = average(args.fairseq, run, last)
    (valid, short), (test, short_test) = (score(args.fairseq, binary, mean, part) for part in ("valid", "test"))
    table = [*multi30k.curve([[{"step": step, "valid_loss": plain} for step, _, plain in losses[:last]]]),
             bench.rows.Row("optimizer steps", [losses[last - 1][0]]),
             bench.rows.Row("validation: tokenised BLEU", [valid]),
             bench.rows.Row("validation: brevity penalty", [short], note="1 = not too short"),
             bench.rows.Row("test2016: brevity penalty", [short_test], note="published: 0.999"),
             bench.rows.Row("test2016: tokenised BLEU", [test], note="published: 41.02")]
    versions = {"fairseq's environment": {name: version(args.fairseq, name) for name in ("fairseq", "torch")}}
    status = bench.finish(args, "multi30k_fairseq", TITLE, TEXT, table, versions, started)
    print(f"{test:.2f}")
    return status


def prepare(python, folder, packed, text, binary, rows=None):
    """fairseq's files of ids, in the folder `binary`, of the data's packed text, or of the first `rows` of each file.
    """
    text.mkdir(parents=True, exist_ok=True)
    for part, names in packed.items():
        for name, language in zip(names, multi30k.LANGUAGES, strict=True):
            with gzip.open(folder / name) as source:
                (text / f"{part}.{language}").write_bytes(b"".join(source.readlines()[:rows]))
    partial = binary.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    prefixes = {f"{part}pref": text / part for part in PARTS}
    source, target = multi30k.LANGUAGES
    fairseq(python, "preprocess", **prefixes, source_lang=source, target_lang=target, destdir=partial,
            joined_dictionary=True)
    os.replace(partial, binary)


def train(python, binary, run, options):
    """Train until patience ends it, which 0.9.0 leaves to its caller, or it is done.

    Returns: [(updates, smoothed validation loss in bits, plain validation loss in nats)] of all epochs.
    """
    run.mkdir(parents=True, exist_ok=True)
    log = run / "log.txt"
    losses = read_losses(log)
    if finished(losses, options["max-update"]):
        bench.say(f"{run} is trained")
        return losses
    words = command(python, "train", binary, save_dir=run, user_dir=ARCHITECTURE, cpu=True, **options, **QUIET)
    with open(log, "a", encoding="utf-8") as file, subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment()) as process:
        for line in process.stdout:
            file.write(line)
            file.flush()
            if VALIDATION.search(line):
                bench.say(line.strip())
            if "saved checkpoint" in line and finished(read_losses(log), options["max-update"]):
                process.terminate()
                break
    losses = read_losses(log)
    if not finished(losses, options["max-update"]):
        sys.exit(f"fairseq ended with status {process.returncode} before it was done; {log} says why.")
    return losses


def read_losses(log):
    """What a log, if it is there, says of each validation, to three digits, in order; a resumed run may say it twice.
    """
    text = log.read_text(encoding="utf-8") if log.is_file() else ""
    found = {int(step): (int(step), float(smoothed), float(plain) * math.log(2))
             for smoothed, plain, step in VALIDATION.findall(text)}
    return [found[step] for step in sorted(found)]


def finished(losses, updates):
    return bool(losses) and (losses[-1][0] >= updates or ended_at([smoothed for _, smoothed, _ in losses]) is not None)


def ended_at(losses):
    """How many epochs training goes on that ends when the loss has not become less for `PATIENCE` epochs, or None."""
    best = 0
    for epoch, loss in enumerate(losses):
        best = epoch if loss < losses[best] else best
        if epoch - best == PATIENCE:
            return epoch + 1
    return None


def average(python, run, last):
    """The file with the mean of the last epochs' weights up to epoch `last`; an epoch cut short has stored none."""
    mean = run / "mean.pt"
    stored = [path for path in (run / f"checkpoint{epoch}.pt" for epoch in range(1, last + 1)) if path.is_file()]
    words = [python, CONTENDERS / "average_fairseq.py", mean, *stored[-AVERAGED:]]
    subprocess.run(list(map(str, words)), check=True, env=environment())
    return mean


def score(python, binary, model, part):
    """(BLEU of tokenised text, brevity penalty) of a part's translations."""
    said = fairseq(python, "generate", binary, user_dir=ARCHITECTURE, path=model, gen_subset=part,
                   cpu=True, beam=5, batch_size=128, remove_bpe=True, quiet=True, num_workers=0)
    return tuple(map(float, SCORE.search(said).groups()))


def fairseq(python, program, *arguments, **options):
    """What a program of fairseq prints."""
    words = command(python, program, *arguments, **options)
    bench.say(" ".join(words))
    return subprocess.run(words, check=True, env=environment(), stdout=subprocess.PIPE, text=True).stdout


def command(python, program, *arguments, **options):
    """Its words; options by name, True for those that stand alone."""
    return list(map(str, [python, "-m", f"fairseq_cli.{program}", *arguments, *recipe.option_words(options)]))


def environment():
    """That of the peers; fairseq reads back its own checkpoints, which hold more than weights."""
    return {**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1", "PYTHONUNBUFFERED": "1"}


def version(python, package):
    code = f"import importlib, sys; sys.stdout.write(importlib.import_module({package!r}).__version__)"
    return subprocess.run([python, "-c", code], check=True, env=environment(), stdout=subprocess.PIPE,
                          text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
