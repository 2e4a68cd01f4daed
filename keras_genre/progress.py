"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from typing import TextIO


def format_seconds(seconds: float) -> str:
    """Write a duration for people: `8 s`, `2 min 05 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class Progress:
    """Shows how far a piece of work is, how fast it goes and how long it will take.

    On a terminal one line is redrawn, at most ten times a second. Elsewhere (a log, a pipe) a line is printed
    at most every `plain_seconds`, and one at the end.

    Parameters
    ----------
    total : int > 0
        Number of items of the whole work.
    unit : str
        What an item is, in the plural: `clips`, `epochs`.
    done : int >= 0
        Items that an earlier run finished; they count as done but not towards the rate.
    plain_seconds : float > 0
        Least time between two lines where the stream is not a terminal.
    stream : text file, optional
        Where to write; standard error by default.
    """

    bar_columns = 24

    def __init__(
        self,
        total: int,
        unit: str,
        *,
        done: int = 0,
        plain_seconds: float = 10.0,
        stream: TextIO | None = None,
    ):
        self.total = total
        self.unit = unit
        self.done = done
        self._done_before = done
        self._stream = stream or sys.stderr
        self._is_terminal = self._stream.isatty()
        self._interval = 0.1 if self._is_terminal else plain_seconds
        self._started = time.monotonic()
        self._shown = self._started if not self._is_terminal else 0.0
        self._width = 0

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind, *_) -> None:
        if self._is_terminal:
            self._draw("")
            self._stream.write("\n")
        elif kind is None and self.done > self._done_before:
            self._stream.write(self.line() + "\n")
        self._stream.flush()

    def advance(self, items: int = 1, note: str = "") -> None:
        """Count `items` more as done; `note` is shown behind the figures."""
        self.done += items
        now = time.monotonic()
        if now - self._shown >= self._interval:
            self._shown = now
            self._draw(note)

    def say(self, text: str) -> None:
        """Print a line of its own, without breaking the bar."""
        if self._is_terminal:
            self._stream.write("\r" + " " * self._width + "\r")
        self._stream.write(text + "\n")
        self._stream.flush()

    def line(self, note: str = "") -> str:
        """Return the present state in words: `31/61 clips, 4.2 clips/s, 7 s left`."""
        elapsed = time.monotonic() - self._started
        rate = (self.done - self._done_before) / elapsed if elapsed > 0 else 0.0
        parts = [f"{self.done}/{self.total} {self.unit}"]
        if rate > 0:
            parts.append(f"{rate:.3g} {self.unit}/s")
            if self.done < self.total:
                parts.append(f"{format_seconds((self.total - self.done) / rate)} left")
            else:
                parts.append(f"{format_seconds(elapsed)} in all")
        if note:
            parts.append(note)
        return ", ".join(parts)

    def _terminal_columns(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            columns = 0
        return columns or 80

    def _draw(self, note: str) -> None:
        text = self.line(note)
        if self._is_terminal:
            filled = self.bar_columns * self.done // max(self.total, 1)
            # A line that wraps could not be redrawn.
            text = f"[{'#' * filled}{'.' * (self.bar_columns - filled)}] {text}"[: self._terminal_columns() - 1]
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()
