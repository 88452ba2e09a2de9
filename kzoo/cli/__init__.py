"""The `kzoo` command: options in, one function call, results out.

Exit status: 0 done; 1 the work ran and its check failed; 2 bad input or usage; 130 interrupted, 143 told to end. An
error is one or two lines on stderr; `--debug` adds the traceback. Nothing heavy is imported here: each command imports
what it runs.
"""
import errno
import os
import sys
import traceback
import warnings

from kzoo.cli.ending import ends_in_order
from kzoo.cli.parser import build_parser, parse
from kzoo.errors import CheckFailed

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
BROKEN_PIPE = 141  # 128 + SIGPIPE
LONGEST_LINE = 1000  # characters; a library's exception can hold pages


def main(argv=None):
    """Run one command.

    Args:
        argv: list of arguments without the program's name; None takes them from the process.

    Returns: the exit status.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes would bury our own lines
    try:
        args = parse(build_parser(), argv)
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            with ends_in_order():
                status = args.command(args) or 0
        sys.stdout.flush()  # so that a closed pipe shows here, not at interpreter exit
        return status
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except KeyboardInterrupt as error:
        return _say(str(error) or "interrupted", getattr(error, "status", INTERRUPTED), argv)
    except CheckFailed as error:
        return _say(str(error), 1, argv)
    except Exception as error:
        return _say(_explain(error), 2, argv)


def _explain(error):
    """An exception as a sentence for people."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full{_of(error.filename)}: free some space and run the command again"
    if isinstance(error, OSError) and error.strerror:  # raised by the system, which says little more than a number
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return f"out of memory. A smaller batch, a shorter sequence or a smaller model needs less. {error}".strip()
    if isinstance(error, (ValueError, TypeError, OSError, ImportError)) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}\nThis was not expected; --debug shows where it happened."


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print(f"kzoo: warning: {message}", file=sys.stderr)


def _of(name):
    return f" ({name})" if name else ""


def _say(message, status, argv):
    """Print at most two lines on stderr, below the traceback if asked for."""
    if "--debug" in argv:
        traceback.print_exc()
    lines = [line.strip() for line in str(message).strip().splitlines() if line.strip()]
    if len(lines) > 2:
        lines = [lines[0], " ".join(lines[1:])]
    lines = [line if len(line) <= LONGEST_LINE else line[:LONGEST_LINE - 3] + "..." for line in lines]
    print("kzoo: " + "\n".join(lines), file=sys.stderr)
    return status
