"""Progress is a bar on a terminal and few plain lines elsewhere."""

import fcntl
import io
import os
import re
import select
import struct
import termios
import time

import pytest

from keras_genre.progress import Progress, format_seconds


class Terminal:
    """A real pseudo-terminal: `stream` is what a program writes to, `shown()` what arrived."""

    def __init__(self, columns):
        self._screen, program = os.openpty()
        fcntl.ioctl(program, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream = os.fdopen(program, "w")

    def shown(self):
        self.stream.flush()
        parts = [os.read(self._screen, 1 << 16)]
        # The kernel hands over what was written in pieces of its own choice.
        while select.select([self._screen], [], [], 0.2)[0]:
            parts.append(os.read(self._screen, 1 << 16))
        return b"".join(parts).decode()

    def close(self):
        self.stream.close()
        os.close(self._screen)


@pytest.fixture
def terminal():
    opened = []

    def make(columns=100):
        opened.append(Terminal(columns))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def lines_on_screen(text):
    """What stands on the screen after the carriage returns have done their work."""
    lines = []
    for line in text.split("\r\n"):
        cells = ""
        for part in line.split("\r"):
            cells = part + cells[len(part) :]
        lines.append(cells.rstrip())
    return lines


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (125, "2 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (12_000, "3 h 20 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_durations_are_written_for_people(seconds, text):
    assert format_seconds(seconds) == text


def test_a_log_gets_a_line_at_the_end_and_none_for_every_item():
    log = io.StringIO()
    with Progress(50, "clips", stream=log) as progress:
        for _ in range(50):
            progress.advance()
    assert re.fullmatch(r"50/50 clips, \S+ clips/s, 0 s in all\n", log.getvalue())


def test_a_log_gets_a_line_each_time_the_interval_is_over():
    log = io.StringIO()
    with Progress(4, "files", plain_seconds=0.05, stream=log) as progress:
        for _ in range(3):
            time.sleep(0.06)
            progress.advance(note="loss 1.0")
        progress.advance()
    lines = log.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["1/4 files", "2/4 files", "3/4 files", "4/4 files"]
    assert all(re.fullmatch(r"\d/4 files, \S+ files/s, \d s left, loss 1.0", line) for line in lines[:3])


def test_work_that_failed_or_had_nothing_to_do_is_not_reported_as_done():
    log = io.StringIO()
    with pytest.raises(KeyboardInterrupt), Progress(2, "clips", stream=log) as progress:
        progress.advance()
        raise KeyboardInterrupt
    with Progress(2, "clips", done=2, stream=log):
        pass
    assert log.getvalue() == ""


def test_what_an_earlier_run_did_counts_as_done_but_not_towards_the_rate():
    progress = Progress(1000, "clips", done=990, stream=io.StringIO())
    assert progress.line() == "990/1000 clips"
    time.sleep(0.1)
    progress.advance()
    rate = float(re.fullmatch(r"991/1000 clips, (\S+) clips/s, \d+ s left", progress.line())[1])
    assert 0 < rate <= 10


def test_a_terminal_shows_one_line_that_is_redrawn(terminal):
    screen = terminal()
    with Progress(4, "clips", stream=screen.stream) as progress:
        for number in range(4):
            progress.advance(note="a long note" if number == 0 else "")
    text = screen.shown()
    assert text.startswith("\r[######..................] 1/4 clips")
    assert text.count("\n") == 1
    bar, rest = lines_on_screen(text)
    assert re.fullmatch(r"\[#{24}\] 4/4 clips, \S+ clips/s, 0 s in all", bar)
    assert rest == ""


def test_a_terminal_is_redrawn_at_most_ten_times_a_second(terminal):
    screen = terminal()
    with Progress(5000, "clips", stream=screen.stream) as progress:
        for _ in range(5000):
            progress.advance()
    assert screen.shown().count("\r[") <= 4


def test_a_message_stands_on_a_line_of_its_own_on_a_terminal(terminal):
    screen = terminal()
    with Progress(2, "clips", stream=screen.stream) as progress:
        progress.advance()
        progress.say("left out: a.wav")
        progress.advance()
    assert lines_on_screen(screen.shown())[0] == "left out: a.wav"


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_a_narrow_terminal_gets_a_line_that_fits(terminal, columns):
    screen = terminal(columns)
    with Progress(2, "clips", stream=screen.stream) as progress:
        progress.advance(note="x" * 200)
    assert max(len(line) for line in lines_on_screen(screen.shown())) < columns
