"""What a command and all that it started use: processor time and memory, from the system's own books."""

import contextlib
import dataclasses
import os
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Usage:
    """What the processes of a session use together.

    Attributes
    ----------
    seconds : float
        Processor time, that of ended children included.
    mib : float
        Resident memory, what processes share counted for each of them.
    """

    seconds: float
    mib: float


def usage(session: int) -> Usage:
    """Return what the processes of a session use now; nothing if there are none."""
    ticks = pages = 0
    for entry in os.scandir("/proc"):
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # The name, in parentheses, may hold anything.
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    ticks += sum(map(int, fields[11:15]))
                    pages += int(fields[21])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20))
