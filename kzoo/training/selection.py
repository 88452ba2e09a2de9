"""Which weights a run ends with: the last, the best by validation, or the mean of several; and when it stops early."""
import pathlib

import numpy as np

from kzoo.training.checkpoints import Checkpoint, write_checkpoint

NAME = "weights-{step:09d}.safetensors"


class Selection:
    """Keeps the weights that may be needed at the end, one file a step, beside the checkpoints.

    What is the best follows from the history alone, so a resumed run chooses as an uninterrupted one.

    Args:
        folder: of the checkpoints.
        options: resolved `TrainOptions`: keep, average_checkpoints, patience.
        metric: name of the validation's number that decides: "loss", which shall be small, or another, large.
        weights: name -> Keras variable of the model.
    """

    def __init__(self, folder, options, metric, weights):
        self.folder = pathlib.Path(folder)
        self.options = options
        self.metric = metric
        self.weights = weights
        self._column = f"valid_{metric}"

    def is_better(self, value, than):
        return value < than if self.metric == "loss" else value > than

    def best(self, history):
        """The row of the best validation, the first of equals; None before there is one."""
        best = None
        for row in history:
            if row[self._column] is not None and (best is None or self.is_better(row[self._column],
                                                                                 best[self._column])):
                best = row
        return best

    def should_stop(self, history):
        """Whether patience has run out."""
        best = self.best(history)
        if self.options.patience is None or best is None:
            return False
        return sum(row["step"] > best["step"] for row in history) >= self.options.patience

    def save(self, history):
        """Keep the weights of the history's last step if they may be needed, and drop those that are not any more."""
        wanted = self._wanted(history)
        step = history[-1]["step"]
        if step in wanted:
            write_checkpoint(self._path(step), self.weights, {"step": step})
        for path in self.folder.glob(NAME.format(step=0).replace("0" * 9, "*")):
            if int(path.stem.split("-")[1]) not in wanted:
                path.unlink()

    def finish(self, history, validate):
        """Put the chosen weights into the model.

        Args:
            history: rows of all intervals.
            validate: () -> dict of the validation's numbers for the model as it is; None without validation.

        Returns: dict for the results: `kept` (what the weights are) and `average` (the numbers of the mean).
        """
        told = {"kept": f"step {history[-1]['step']}"}
        best = self.best(history) if self.options.keep == "best" else None
        steps = self._averaged(history)
        if steps:
            self._average(steps)
            mean = f"mean of steps {', '.join(map(str, steps))}"
            told = {"kept": mean, "average": validate() if validate else None}
            if best is None or self.is_better(told["average"][self.metric], best[self._column]):
                return told
        if best is not None and (steps or best["step"] != history[-1]["step"]):
            Checkpoint(self._path(best["step"])).restore(self.weights)
        return {**told, "kept": f"step {best['step']}"} if best is not None else told

    def _wanted(self, history):
        wanted = set(self._averaged(history))
        if self.options.keep == "best" and self.best(history) is not None:
            wanted.add(self.best(history)["step"])
        return wanted

    def _averaged(self, history):
        count = self.options.average_checkpoints
        return [row["step"] for row in history[-count:]] if count else []

    def _average(self, steps):
        files = [Checkpoint(self._path(step)) for step in steps]
        for name, variable in self.weights.items():
            total = sum(file.read(name).astype("float64") for file in files)
            variable.assign((total / len(files)).astype(np.float32))

    def _path(self, step):
        return self.folder / NAME.format(step=step)
