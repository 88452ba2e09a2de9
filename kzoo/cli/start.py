"""Starting the backend without its notes."""
import contextlib
import os
import sys
import tempfile

from kzoo.errors import not_installed


def start_backend():
    """Import Keras and its backend, and run a first operation.

    TensorFlow writes lines about the machine to stderr, before any setting of it applies. They are put aside here,
    so that an error stays two lines; if the start fails they are shown.
    """
    try:
        with _stderr_aside():
            import keras

            keras.ops.zeros(1)
    except ModuleNotFoundError as error:
        raise not_installed(error) from error


@contextlib.contextmanager
def _stderr_aside():
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        kept = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
