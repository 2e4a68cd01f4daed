"""What the commands share: exit status, messages, and quiet start-up."""

import argparse
import contextlib
import functools
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence

from keras_genre.errors import KerasGenreError, ParameterError

DONE, SOME_FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

Main = Callable[..., int]


def command(main: Main) -> Main:
    """Make `main` a command: its exit status is returned, errors that are the user's are shown without a traceback.

    Data go to standard output, everything else to standard error. Who calls `main` has environment and warnings as they
    were afterwards.
    """

    @functools.wraps(main)
    @_quiet()
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except KerasGenreError as error:
            print(f"error: {error}", file=sys.stderr)
            return WRONG_USAGE if isinstance(error, ParameterError) else SOME_FAILED
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:
            # The reader of our output has gone; Python would complain once more when it flushes at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return SOME_FAILED
        except OSError as error:
            print(f"error: {error.filename or 'the system'}: {error.strerror or error}", file=sys.stderr)
            return SOME_FAILED

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # TensorFlow reads this when it is imported, which commands do only once their flags are understood.
    level = "TF_CPP_MIN_LOG_LEVEL"
    chosen = level in os.environ
    os.environ.setdefault(level, "3")
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    finally:
        if not chosen:
            os.environ.pop(level, None)


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Make the argument parser of `python -m NAME`."""
    return argparse.ArgumentParser(
        prog=f"python -m {name}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def say(text: str) -> None:
    """Tell the user something that is not data."""
    print(text, file=sys.stderr, flush=True)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    if category.__module__.startswith("keras_genre"):
        say(f"warning: {message}")
