"""`keras-genre COMMAND ...`: the commands under one name."""

import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "datasets": "download and validate GTZAN and FMA-small",
    "precompute": "audio files -> feature store",
    "store": "look at, validate, import and export feature stores",
    "train": "feature store -> trained network and report",
    "evaluate": "report on the clips of a split",
    "predict": "audio files -> genres",
    "export": "run -> SavedModel for serving",
    "serve": "SavedModel -> HTTP server",
    "musicnn": "published wheel -> the weights of the music tagger, which this package has already",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: keras-genre COMMAND [--help] ...\n")
        for name, what in COMMANDS.items():
            print(f"  {name:<12}{what}")
        return 0 if arguments else 2
    if arguments[0] not in COMMANDS:
        print(f"error: unknown command {arguments[0]!r}; known: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module = importlib.import_module(f"keras_genre.{arguments[0]}")
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{module.__name__}.__main__")
    return module.main(arguments[1:])


if __name__ == "__main__":
    sys.exit(main())
