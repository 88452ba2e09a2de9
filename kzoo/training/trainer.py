"""`train`: from text files to a trained model in a folder, resumable at every moment."""
import dataclasses
import pathlib

from kzoo.files import atomic_folder
from kzoo.saving import load
from kzoo.tokenizers import load_tokenizer
from kzoo.training.corpus import encode_corpus
from kzoo.training.event_file import import_tensorboard
from kzoo.training.fitting import fit
from kzoo.training.options import TrainOptions
from kzoo.training.progress import note
from kzoo.training.run_folder import check_out, check_same, clean, finish, prepare, read_record
from kzoo.training.sources import ModelSource, TokenizerSource
from kzoo.training.text_files import check_text

TASKS = ("text-generation",)


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        model: the trained model, with its tokenizer.
        folder: where it was saved; `kzoo.load` opens it.
        results: what training.json says: steps, parameters, loss, valid (the metrics of `kzoo.evaluate`), seconds,
            tokens_per_second, and history (one dict an interval: step, tokens, learning_rate, loss, valid_loss).
    """
    model: object
    folder: pathlib.Path
    results: dict


def train(model, data, out, task="text-generation", valid=None, tokenizer=None, vocabulary_size=None, overrides=None,
          resume=False, overwrite=False, logdir=None, **options):
    """Train a model on text files, with `model.fit`.

    Args:
        model: a preset ("gpt2-nano"), the folder of a run or checkpoint to go on from, or a kzoo model.
        data: UTF-8 text file (.gz and .xz too), or several that are read as one text; they may exceed the memory.
        out: folder of the run, made here. At the end it holds the model as `kzoo.save` writes it, training.json and
            log.csv.
        task: "text-generation".
        valid: validation file or files; None holds out the end of `data` (`validation_split`).
        tokenizer: "character", "byte-bpe", "wordpiece" or "sentencepiece", trained on `data`; a path; or a Tokenizer.
            None means the model's own, or byte-bpe.
        vocabulary_size: of a tokenizer that is trained; None means its own default.
        overrides: config fields that differ from the preset's; words are read as the field's type.
        resume: go on from the last checkpoint in `out`, with the same options and data. Where there is no run yet, a
            new one starts.
        overwrite: replace the run in `out`.
        logdir: write TensorBoard logs there.
        options: fields of `TrainOptions`.

    Returns: Run.
    Raises: ValueError, TypeError or OSError for bad input, before anything is written; CheckFailed if the loss is no
        longer finite. On KeyboardInterrupt the folder stays resumable.
    """
    options = TrainOptions.from_dict(options)
    if task not in TASKS:
        raise ValueError(f"`train` serves the tasks: {', '.join(TASKS)}. Received: {task!r}.")
    if logdir is not None:
        import_tensorboard()
    out = pathlib.Path(out)
    resuming = check_out(out, resume, overwrite)
    source = ModelSource(model, task, overrides, options.mixed_precision)
    tokenizers = TokenizerSource.read(tokenizer, vocabulary_size, source)
    text, valid_text = check_text(data), None if valid is None else check_text(valid)
    identity = {
        "model": source.name, "task": task, "config": source.config.to_dict(), "tokenizer": tokenizers.identity(),
        "data": _identify(text), "valid": valid_text and _identify(valid_text), "options": options.identity()}
    if not resuming:
        with atomic_folder(out, overwrite) as folder:
            _prepare(folder, source, tokenizers, text, valid_text, options, identity)
    record = read_record(out)
    check_same(out, record["identity"], identity)
    if record["state"] == "finished":
        clean(out)
        note(f"{out} is finished; there is nothing left to train.")
        return Run(load(out, task), out, record["results"])
    # A run that was made just now goes the same way as one that is resumed.
    tokenizer = load_tokenizer(out)
    config = source.size(tokenizer, options.sequence_length)
    corpus = encode_corpus(out, tokenizer, text, valid_text, options, config)
    options = TrainOptions.from_dict(record["resolved"]).replace(jit=options.jit, deterministic=options.deterministic)
    model = source.make(tokenizer, options.seed)
    try:
        results = fit(model, corpus, options, out, identity, logdir)
    except KeyboardInterrupt:
        note(f"Interrupted. {out} can be resumed: give the same command with --resume (in Python, resume=True).")
        raise
    finish(out, model, record, results)
    return Run(model, out, results)


def _prepare(folder, source, tokenizers, text, valid_text, options, identity):
    """Everything before the first step, in a folder that vanishes if any of it fails."""
    tokenizer = tokenizers.make(text)
    tokenizer.save(folder)
    config = source.size(tokenizer, options.sequence_length)
    corpus = encode_corpus(folder, tokenizer, text, valid_text, options, config)
    resolved = options.resolve(corpus.sequence_length, corpus.windows(options).steps_per_epoch(
        options.gradient_accumulation))
    prepare(folder, identity, resolved, text, valid_text)


def _identify(text):
    return {"sha256": text.sha256, "characters": text.characters}
