"""A file that kills whoever opens it, in a module of its own, which workers of another machine can import."""

import os
import pathlib
import signal


class DeadlyPath(type(pathlib.Path())):
    """A path that kills the process which opens it, if it is named so: what a crash in a decoder does."""

    def __fspath__(self):
        if self.name.startswith("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__fspath__()
