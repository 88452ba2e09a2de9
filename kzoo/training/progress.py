"""How far long work has come: a bar in a terminal, a line now and then elsewhere. Always on stderr."""
import sys
import time

SECONDS_BETWEEN_LINES = 10
REFRESHES_PER_SECOND = 2  # drawing takes time from the training step on small machines


def note(text):
    """One line that stays."""
    print(text, file=sys.stderr, flush=True)


class Progress:
    """The progress of one piece of work; a context manager.

    Args:
        title: what is done, for example "training".
        total: how many units there are.
        unit: what they are called, for example "steps".
        start: how many were done before.
    """

    def __init__(self, title, total, unit, start=0):
        self.title = title
        self.total = total
        self.unit = unit
        self._bar = self._task = None
        self._shown = time.monotonic()
        self.start_clock(start)

    def start_clock(self, done):
        """Estimate the time left from here on; what went before (compiling, say) does not come again."""
        self._start, self._begun = done, time.monotonic()

    def __enter__(self):
        if sys.stderr.isatty():
            self._bar, self._task = _rich_bar(self.title, self.total, self._start)  # the bar has a clock of its own
            self._bar.start()
        return self

    def __exit__(self, *error):
        if self._bar is not None:
            self._bar.stop()

    def due(self):
        """True where `update` would show something; ask first when making the words costs time."""
        wait = 1 / REFRESHES_PER_SECOND if self._bar is not None else SECONDS_BETWEEN_LINES
        return time.monotonic() - self._shown >= wait

    def update(self, done, words=""):
        """Say that `done` units are finished; `words` are shown beside the count."""
        if not self.due():
            return
        self._shown = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, words=words)
        else:
            note(self.line(done, words))

    def line(self, done, words=""):
        """`title: 250/2,000 steps  words  0:01:10 left`"""
        parts = [f"{self.title}: {done:,}/{self.total:,} {self.unit}", words]
        if done > self._start:
            seconds = (time.monotonic() - self._begun) * (self.total - done) / (done - self._start)
            parts.append(f"{clock(seconds)} left")
        return "  ".join(part for part in parts if part)

    def note(self, text):
        """A line that stays, above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            note(text)


def clock(seconds):
    """4210 -> "1:10:10"."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _rich_bar(title, total, start):
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TextColumn("{task.fields[words]}", markup=False), TimeRemainingColumn(),
                   console=Console(stderr=True), refresh_per_second=REFRESHES_PER_SECOND, transient=True)
    return bar, bar.add_task(title, total=total, completed=start, words="")
