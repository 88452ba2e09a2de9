"""Training processes that are killed, with the signal that nothing can catch, each at another moment.

usage: killed_run.py TASK DATA FOLDER

`FOLDER/killed` is resumed and killed at one moment after the other and then left to finish; `FOLDER/whole` is trained
without interruption, and for text-generation `FOLDER/other` with another seed. Prints a JSON line a process: moment,
exit status (negative: the signal), checkpoints and rows of the log that it left. The processes are forks of one that
has imported the backend and not used it, which saves importing it for each.
"""
import gc
import json
import os
import pathlib
import signal
import sys
import traceback

import keras

from kzoo.training import callbacks, checkpoints, data_files, run_folder, token_files, trainer

gc.set_threshold(100_000, 20, 50)  # as in conftest.py, for speed
JIT = "on" if keras.backend.backend() == "jax" else "off"  # whichever is quicker for so few steps
if JIT == "off":
    import tensorflow as tf

    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # as in conftest.py, for speed
OPTIONS = {"gradient_accumulation": 2, "steps": 11, "interval": 3, "warmup_steps": 2, "deterministic": True, "jit": JIT}
SIZES = {"num_layers": 1, "num_heads": 2, "hidden_dim": 6, "dropout": 0.2}
ROW_DATA = {"length_buckets": 2}  # each is traced, in every process
TASKS = {
    "text-generation": {"model": "gpt2-nano", "overrides": SIZES, "tokenizer": "character", "sequence_length": 5,
                        "batch_size": 3},
    "text-classification": {**ROW_DATA, "model": "bert-tiny", "tokenizer": "wordpiece", "vocabulary_size": 60,
                            "batch_size": 3, "keep": "best", "class_weights": "balanced",
                            "overrides": {**SIZES, "intermediate_dim": 7, "max_sequence_length": 40}},
    "translation": {**ROW_DATA, "model": "transformer-tiny", "tokenizer": "sentencepiece", "vocabulary_size": 300,
                    "batch_tokens": 96, "label_smoothing": 0.1, "average_checkpoints": 2,
                    "overrides": {**SIZES, "num_decoder_layers": 1, "intermediate_dim": 7}},
}


def kill_at_call(module, name, number, after=False):
    """Die when `module.name` is called for the `number`-th time, before or after its work."""
    original, calls = getattr(module, name), []

    def replacement(*arguments, **options):
        calls.append(1)
        result = original(*arguments, **options) if after or len(calls) < number else None
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(module, name, replacement)


MOMENTS = {
    "encoding": lambda: kill_at_call(token_files, "_write", 2, after=True),
    "encoding rows": lambda: kill_at_call(data_files, "encode_table", 2, after=True),
    "between checkpoints": lambda: kill_at_call(callbacks.ShowProgress, "on_train_batch_end", 5),  # step 5
    "writing a checkpoint": lambda: kill_at_call(checkpoints, "_array", 5),
    "before the log": lambda: kill_at_call(callbacks, "write_log", 1),
    "saving the model": lambda: kill_at_call(run_folder, "write_model", 1, after=True),
    "never": lambda: None,
}
TEXT = ("encoding", "between checkpoints", "writing a checkpoint", "before the log", "saving the model", "never")
ROWS = ("encoding rows", "between checkpoints", "never")  # the rest is the same for all tasks


def run(task, data, out, moment="never", seed=7, resume=True):
    """Train in a process of its own; say how it ended."""
    sys.stdout.flush()
    child = os.fork()
    if not child:
        try:
            MOMENTS[moment]()
            trainer.train(data=data, out=out, task=task, seed=seed, resume=resume, **OPTIONS, **TASKS[task])
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    folder, log = out / "checkpoints", out / "log.csv"
    print(json.dumps({
        "moment": moment, "status": status, "exists": out.exists(),
        "checkpoints": sorted(path.name for path in folder.glob("step-*")) if folder.exists() else [],
        "rows": len(log.read_text().splitlines()) - 1 if log.exists() else 0}), flush=True)


if __name__ == "__main__":
    task, *paths = sys.argv[1:]
    data, folder = map(pathlib.Path, paths)
    for moment in TEXT if task == "text-generation" else ROWS:
        run(task, data, folder / "killed", moment)
    run(task, data, folder / "whole", resume=False)
    if task == "text-generation":
        run(task, data, folder / "other", seed=8, resume=False)
