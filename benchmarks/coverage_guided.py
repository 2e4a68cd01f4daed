"""Let atheris search for inputs that reach new lines of this package, from the inputs of `benchmarks.hostile_input`.

Command: `python -m benchmarks.coverage_guided TARGET CORPUS [libFuzzer's options]`, for instance `-max_total_time=60`.
It needs `pip install atheris`, which is for Linux and is in none of the extras. What reaches new lines is kept in the
folder CORPUS, so the next run goes on from there; an input that is a finding is written to the present folder.
"""

import contextlib
import sys
import tempfile
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["keras_genre"]):
    from benchmarks.hostile_input import CPU_SECONDS, MEMORY_MIB, TARGETS, input_of
    from keras_genre.errors import KerasGenreError

SEEDS = 50


def main() -> None:
    """Run the command."""
    name, corpus = sys.argv[1], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    for number in range(SEEDS):
        (corpus / f"seed {number}").write_bytes(input_of(name, 0, number))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder) / "scratch"
        scratch.mkdir()
        with atheris.instrument_imports(include=["keras_genre"]):
            feed = TARGETS[name].feed(scratch)

            def test_one_input(content: bytes) -> None:
                with contextlib.suppress(KerasGenreError):
                    feed(content)

            # Some modules are imported when the first input comes, and only what is imported here is followed.
            test_one_input(input_of(name, 0, 0))

        limits = [f"-timeout={CPU_SECONDS}", f"-rss_limit_mb={4 * MEMORY_MIB}", "-max_len=20000"]
        atheris.Setup([sys.argv[0], *limits, *sys.argv[3:], str(corpus)], test_one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
