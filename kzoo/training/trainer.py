"""`train`: from data files to a trained model in a folder, resumable at every moment."""
import dataclasses
import pathlib

from kzoo.files import atomic_folder
from kzoo.saving import load
from kzoo.tokenizers import load_tokenizer
from kzoo.training.data_files import open_data
from kzoo.training.event_file import import_tensorboard
from kzoo.training.fitting import fit
from kzoo.training.options import TrainOptions
from kzoo.training.progress import note
from kzoo.training.run_folder import check_out, check_same, clean, finish, prepare, read_record
from kzoo.training.sources import ModelSource, TokenizerSource


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        model: the trained model, with its tokenizer.
        folder: where it was saved; `kzoo.load` opens it.
        results: what training.json says: steps, parameters, loss, valid (what was measured on held-out data at the
            end), kept (the step whose weights these are, or the steps they are the mean of), seconds (of a run that
            was resumed: of all its processes, each as far as its last checkpoint), tokens_per_second (of the last
            process), and history (one dict an interval: step, tokens, learning_rate, loss, valid_loss, and by
            task valid_accuracy or valid_exact).
    """
    model: object
    folder: pathlib.Path
    results: dict


def train(model, data, out, task="text-generation", valid=None, tokenizer=None, vocabulary_size=None, overrides=None,
          columns=None, skip_bad_rows=False, resume=False, overwrite=False, logdir=None, **options):
    """Train a model on data files, with `model.fit`.

    Args:
        model: a preset ("gpt2-nano"), the folder of a run or checkpoint to go on from, or a kzoo model. A folder may
            have been trained for another task: then the task's own weights are new, and a warning names them.
        data: a file, or several that are read as one; `.gz` and `.xz` are unpacked. By task: UTF-8 text, which may
            exceed the memory (text-generation, fill-mask); .tsv, .csv or .jsonl with text and label
            (text-classification) or source and target (translation, summarization), for which two parallel texts serve,
            too; a word and its tag a line (token-classification), or .jsonl with lists of both; SQuAD's JSON
            (question-answering).
        out: folder of the run, made here. At the end it holds the model as `kzoo.save` writes it, training.json and
            log.csv.
        task: what the model shall do.
        valid: validation file or files; None holds out a part of `data` (`validation_split`).
        tokenizer: "character", "byte-bpe", "wordpiece" or "sentencepiece", trained on `data`; a path; or a Tokenizer.
            None means the model's own, or byte-bpe for text-generation, sentencepiece for translation and
            summarization, and wordpiece for the others.
        vocabulary_size: of a tokenizer that is trained; None means its own default.
        overrides: config fields that differ from the preset's or the folder's; words are read as the field's type.
        columns: where the rows of a table have what the task needs: "text=sentence,label=2", by header name or by
            position from 1; see `kzoo.training.columns.parse_columns`.
        skip_bad_rows: leave out rows that cannot be used, and say how many and which, instead of refusing the file.
        resume: go on from the last checkpoint in `out`, with the same options and data. Where there is no run yet, a
            new one starts.
        overwrite: replace the run in `out`.
        logdir: write TensorBoard logs there.
        options: fields of `TrainOptions`.

    Returns: Run.
    Raises: ValueError, TypeError or OSError for bad input, before anything is written; CheckFailed if a loss is no
        longer finite. On KeyboardInterrupt the folder stays resumable.
    """
    if {"batch_size", "batch_tokens"} <= options.keys():
        raise ValueError("`batch_size` and `batch_tokens` exclude each other; give one.")
    options = TrainOptions.from_dict(options)
    if logdir is not None:
        import_tensorboard()
    out = pathlib.Path(out)
    resuming = check_out(out, resume, overwrite)
    source = ModelSource(model, task, overrides, options.mixed_precision)
    files = open_data(task, data, valid, columns, skip_bad_rows, options)
    source.open(files.labels, options.seed)
    tokenizers = TokenizerSource.read(tokenizer, vocabulary_size, source)
    identity = {
        "model": source.name, "task": task, "config": source.config.to_dict(), "tokenizer": tokenizers.identity(),
        **files.identity(), "options": options.identity()}
    if not resuming:
        with atomic_folder(out, overwrite) as folder:
            _prepare(folder, source, tokenizers, files, options, identity)
    record = read_record(out)
    begun = record["identity"]
    check_same(out, begun, identity, defaults={
        "config": source.config.defaults(), "options": TrainOptions().identity()})
    if record["state"] == "finished":
        clean(out)
        note(f"{out} is finished; there is nothing left to train.")
        return Run(load(out, task), out, record["results"])
    # A run that was made just now goes the same way as one that is resumed.
    tokenizer = load_tokenizer(out)
    config = source.size(tokenizer, options.sequence_length)
    encoded = files.encode(out, tokenizer, options, config, source.labels)
    options = TrainOptions.from_dict(record["resolved"]).replace(jit=options.jit, deterministic=options.deterministic)
    model = source.make(tokenizer, options.seed)
    try:
        results = fit(model, encoded, options, out, begun, logdir)
    except KeyboardInterrupt:
        note(f"Interrupted. {out} can be resumed: give the same command with --resume (in Python, resume=True).")
        raise
    finish(out, model, record, results)
    return Run(model, out, results)


def _prepare(folder, source, tokenizers, files, options, identity):
    """Everything before the first step, in a folder that vanishes if any of it fails."""
    tokenizer = tokenizers.make(files)
    tokenizer.save(folder)
    config = source.size(tokenizer, options.sequence_length)
    data = files.encode(folder, tokenizer, options, config, source.labels)
    if data.valid is None:
        for name in ("patience", "keep"):
            if getattr(options, name) not in (None, "last"):
                raise ValueError(f"`{name}`={getattr(options, name)!r} needs data to validate on: give `valid`, or a "
                                 "`validation_split` above 0.")
    resolved = options.resolve(data.sequence_length, data.steps_per_epoch())
    prepare(folder, identity, resolved, files.files())
