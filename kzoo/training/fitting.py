"""The run itself: `model.compile`, `model.fit`, and the last validation."""
import time

import keras
import numpy as np

from kzoo.checkpoint import variables_by_path
from kzoo.evaluation import WindowScorer, metrics
from kzoo.training.callbacks import EndInterval, ShowProgress, Speed, write_log
from kzoo.training.checkpoints import latest_checkpoint, save_checkpoint
from kzoo.training.event_file import EventFile
from kzoo.training.losses import TokenCrossEntropy
from kzoo.training.optimizer import (
    choose_jit,
    make_optimizer,
    make_schedule,
    require_determinism,
    steps_per_execution,
)
from kzoo.training.progress import Progress, note
from kzoo.training.run_folder import CHECKPOINTS, LOG
from kzoo.training.token_windows import make_dataset


def fit(model, corpus, options, folder, identity, logdir=None):
    """Train from the last checkpoint in `folder`, or from the start, to the last step.

    An epoch of Keras is an interval of the run: `interval` optimizer steps, then validation, checkpoint, logs.

    Args:
        model: a built task model.
        corpus: `Corpus`.
        options: resolved `TrainOptions`.
        folder: of the run.
        identity: plain values that travel in the checkpoints.
        logdir: for TensorBoard, or None.

    Returns: dict of results, for training.json.
    """
    started = time.monotonic()
    jit, reason = choose_jit(options.jit, options.steps, options.deterministic)
    note(reason)
    if options.deterministic:
        require_determinism()
    optimizer = make_optimizer(options, model.trainable_variables)
    state = _state(model, optimizer)
    step, history = _restore(folder / CHECKPOINTS, state, identity)
    write_log(folder / LOG, history)  # drops rows that an interrupted process wrote after its checkpoint
    scorer = WindowScorer(model, corpus.sequence_length) if corpus.valid is not None else None
    model.compile(optimizer=optimizer, loss=TokenCrossEntropy(options.label_smoothing), jit_compile=jit,
                  auto_scale_loss=False,  # the optimizer does it already
                  steps_per_execution=steps_per_execution(options, model.count_params(), corpus.sequence_length))

    def validate():
        nats, count = scorer.score(corpus.valid, options.validation_tokens)
        return nats / count

    def save(step, history):
        save_checkpoint(folder / CHECKPOINTS, step, state, {
            "step": step, "batches": step * options.gradient_accumulation, "identity": identity, "history": history})

    schedule = make_schedule(options)
    windows = corpus.windows(options)
    batches_per_step = options.gradient_accumulation
    tokens_per_step = batches_per_step * options.batch_size * corpus.sequence_length
    speed = Speed(tokens_per_step)
    events = EventFile(logdir, step) if logdir else None
    with Progress("training", options.steps, "steps", step) as progress:
        callbacks = [
            ShowProgress(progress, speed, options.interval, batches_per_step),
            EndInterval(options.steps, options.interval, history, lambda done: _number(schedule(done)), tokens_per_step,
                        validate if scorer else None, save, folder / LOG, events, progress, speed)]
        for begin, end, length in _stretches(step, options.steps, options.interval):
            first = begin // options.interval
            model.fit(make_dataset(windows, begin * batches_per_step, end * batches_per_step), shuffle=False,
                      steps_per_epoch=length * batches_per_step, initial_epoch=first,
                      epochs=first + (end - begin) // length, callbacks=callbacks, verbose=0)
    if events:
        events.close()
    return {
        "steps": options.steps, "parameters": model.count_params(), "loss": history[-1]["loss"],
        "valid": _last_validation(scorer, corpus, max(options.validation_tokens, options.steps * tokens_per_step),
                                  model.tokenizer),
        "jit": jit, "seconds": round(time.monotonic() - started, 1),
        "tokens_per_second": speed.tokens_per_second() and round(speed.tokens_per_second()), "history": history}


def _stretches(step, steps, interval):
    """(first step, last step, steps in an epoch) of each call of `fit`: whole intervals, then a shorter one."""
    whole = steps // interval * interval
    if step < whole:
        yield step, whole, interval
    if whole < steps and step < steps:
        yield whole, steps, steps - whole


def _state(model, optimizer):
    """name -> variable of all that training changes: weights, states of random generators, optimizer.

    Only weights have a name that does not depend on what else the process has made; the others have their number.
    """
    weights = variables_by_path(model)
    names = {id(variable): path for path, variable in weights.items()}
    result = {f"model/{names.get(id(variable), f'state_{number}')}": variable
              for number, variable in enumerate(model.variables)}
    return {**result, **{f"optimizer/{number}": variable for number, variable in enumerate(optimizer.variables)}}


def _restore(folder, state, identity):
    """(steps done, history) of the last checkpoint, its values put into `state`; (0, []) without one."""
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        return 0, []
    if checkpoint.metadata["identity"] != identity:
        raise ValueError(f"{checkpoint.path} is of another run. Take it out of the folder.")
    checkpoint.restore(state)
    note(f"Resumed from step {checkpoint.metadata['step']:,}.")
    return checkpoint.metadata["step"], checkpoint.metadata["history"]


def _last_validation(scorer, corpus, max_tokens, tokenizer):
    """The metrics of `kzoo.evaluate` over all that is held out, or about `max_tokens` of it.

    The limit keeps a short run on a large text from spending longer on its validation than on its training.
    """
    if scorer is None:
        return None
    with Progress("validating", len(corpus.valid) - 1, "tokens") as progress:
        nats, count = scorer.score(corpus.valid, max_tokens, report=progress.update)
    return metrics(nats, count, corpus.valid, corpus.valid_characters, tokenizer)


def _number(tensor):
    return float(np.asarray(keras.ops.convert_to_numpy(tensor)))
