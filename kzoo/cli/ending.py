"""How a command ends when it is told to: as after Ctrl-C, with what it did so far kept and half-made files removed."""
import contextlib
import signal
import sys
import threading

AGAIN = 0.05  # seconds after which an ending that was lost comes once more


class Ended(KeyboardInterrupt):
    """The system, or a supervisor, told the process to end; work is left as after Ctrl-C."""

    def __init__(self, number):
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.number = number
        self.status = 128 + number  # as shells report it


@contextlib.contextmanager
def ends_in_order():
    """What ends the process without a word otherwise cleans up first: SIGTERM, and a terminal that is closed."""
    def end(number, frame):
        raise Ended(number)

    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    before = {}
    try:
        for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
            if signal.getsignal(number) == signal.SIG_DFL:  # `nohup` ignores SIGHUP, and a program may have its own way
                before[number] = signal.signal(number, end)
        with _never_lost():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _never_lost():
    """Python drops what is raised while it collects garbage or removes a value, and JAX has it call a function then,
    which is where the main thread often is when a signal arrives: the command would go on as if nobody had spoken."""
    before, waiting = sys.unraisablehook, []

    def hook(lost):
        if isinstance(lost.exc_value, KeyboardInterrupt):
            number = getattr(lost.exc_value, "number", signal.SIGINT)
            again = threading.Timer(AGAIN, signal.raise_signal, [number])  # Python calls handlers in the main thread
            again.daemon = True
            waiting.append(again)
            again.start()
        else:
            before(lost)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for again in waiting:
            again.cancel()
