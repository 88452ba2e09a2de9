"""The run itself: `model.compile`, `model.fit`, and the last validation."""
import time

import keras
import numpy as np

from kzoo.checkpoint import variables_by_path
from kzoo.training.callbacks import EndInterval, ShowProgress, Speed, write_log
from kzoo.training.checkpoints import latest_checkpoint, save_checkpoint
from kzoo.training.event_file import EventFile
from kzoo.training.optimizer import (
    choose_jit,
    make_optimizer,
    make_schedule,
    require_determinism,
    steps_per_execution,
)
from kzoo.training.progress import Progress, note
from kzoo.training.run_folder import CHECKPOINTS, LOG
from kzoo.training.selection import Selection


def fit(model, data, options, folder, identity, logdir=None):
    """Train from the last checkpoint in `folder`, or from the start, to the last step.

    An epoch of Keras is an interval of the run: `interval` optimizer steps, then validation, checkpoint, logs.

    Args:
        model: a built task model.
        data: the task's `TaskData`.
        options: resolved `TrainOptions`.
        folder: of the run.
        identity: plain values that travel in the checkpoints.
        logdir: for TensorBoard, or None.

    Returns: dict of results, for training.json.
    """
    started = time.monotonic()
    jit, reason = choose_jit(options.jit, options.steps, options.deterministic, data.num_shapes)
    note(reason)
    if options.deterministic:
        require_determinism()
    optimizer = make_optimizer(options, model.trainable_variables)
    trained = data.training_model(model)
    state = _state(model, trained, optimizer)
    step, history, seconds = _restore(folder / CHECKPOINTS, state, identity)
    started -= seconds  # of the processes before this one
    write_log(folder / LOG, history, data.measures)  # drops rows that an interrupted process wrote after its checkpoint
    scorer = data.scorer(model)
    trained.compile(optimizer=optimizer, **data.compile_arguments(options.label_smoothing), jit_compile=jit,
                    auto_scale_loss=False,  # the optimizer does it already
                    steps_per_execution=steps_per_execution(options, model.count_params(), data.largest_batch))
    selection = Selection(folder / CHECKPOINTS, options, data.metric, variables_by_path(model))
    batches_per_step = options.gradient_accumulation

    def validate():
        return scorer.score(options.validation_tokens or data.validation_tokens)

    def save(history):
        step = history[-1]["step"]
        selection.save(history)  # before the checkpoint, from which a resumed run takes it that they are there
        save_checkpoint(folder / CHECKPOINTS, step, state, {
            "step": step, "batches": step * batches_per_step, "identity": identity, "history": history,
            "seconds": time.monotonic() - started})

    schedule = make_schedule(options)
    speed = Speed(data.tokens)
    events = EventFile(logdir, step) if logdir else None
    with Progress("training", options.steps, "steps", step) as progress:
        callbacks = [
            ShowProgress(progress, speed, options.interval, batches_per_step, data.reported_loss),
            EndInterval(options.steps, options.interval, history, lambda done: _number(schedule(done)),
                        data.reported_loss, data.tokens, validate if scorer else None, data.measures, save,
                        selection.should_stop, folder / LOG, events, progress, speed)]
        for begin, end, length in _stretches(step, options.steps, options.interval):
            if selection.should_stop(history):
                break
            first = begin // options.interval
            trained.fit(data.dataset(begin * batches_per_step, end * batches_per_step), shuffle=False,
                        steps_per_epoch=length * batches_per_step, initial_epoch=first,
                        epochs=first + (end - begin) // length, callbacks=callbacks, verbose=0)
    if events:
        events.close()
    steps = history[-1]["step"]
    if steps < options.steps:
        note(f"Stopped at step {steps:,}: {options.patience} validations were no better than that of step "
             f"{selection.best(history)['step']:,}.")
    told = selection.finish(history, validate if scorer else None)
    # The limit keeps a short run on a large text from spending longer on its validation than on its training.
    limit = data.validation_tokens and max(options.validation_tokens or data.validation_tokens, data.tokens(steps))
    if model.newly_initialized:
        told["newly_initialized"] = list(model.newly_initialized)
    return {
        "steps": steps, "parameters": model.count_params(), "loss": history[-1]["loss"], **told,
        "valid": _last_validation(scorer, limit), "jit": jit, "seconds": round(time.monotonic() - started, 1),
        "tokens_per_second": speed.tokens_per_second() and round(speed.tokens_per_second()), "history": history}


def _stretches(step, steps, interval):
    """(first step, last step, steps in an epoch) of each call of `fit`: whole intervals, then a shorter one."""
    whole = steps // interval * interval
    if step < whole:
        yield step, whole, interval
    if whole < steps and step < steps:
        yield whole, steps, steps - whole


def _state(model, trained, optimizer):
    """name -> variable of all that training changes: weights, states of random generators, memories, optimizer.

    Only weights have a name that does not depend on what else the process has made; the others have their number.
    """
    weights = variables_by_path(model)
    names = {id(variable): path for path, variable in weights.items()}
    result = {f"model/{names.get(id(variable), f'state_{number}')}": variable
              for number, variable in enumerate(trained.variables)}
    return {**result, **{f"optimizer/{number}": variable for number, variable in enumerate(optimizer.variables)}}


def _restore(folder, state, identity):
    """(steps done, history, seconds spent) of the last checkpoint, its values put into `state`; (0, [], 0) without one.
    """
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        return 0, [], 0
    if checkpoint.metadata["identity"] != identity:
        raise ValueError(f"{checkpoint.path} is of another run. Take it out of the folder.")
    checkpoint.restore(state)
    note(f"Resumed from step {checkpoint.metadata['step']:,}.")
    seconds = checkpoint.metadata.get("seconds", 0)  # checkpoints of kzoo before 2026-11-29 do not say
    return checkpoint.metadata["step"], checkpoint.metadata["history"], seconds


def _last_validation(scorer, max_tokens):
    """What is worth keeping of a last validation, over all that is held out, or about `max_tokens` of it."""
    if scorer is None:
        return None
    with Progress("validating", scorer.tokens, "tokens") as progress:
        return scorer.results(max_tokens, report=progress.update)


def _number(tensor):
    return float(np.asarray(keras.ops.convert_to_numpy(tensor)))
