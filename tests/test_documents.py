"""The figures in the documents are the ones that the benchmarks wrote, and what they name exists."""

import functools
import re
import subprocess
import sys

import pytest

from benchmarks import documents
from keras_genre.__main__ import COMMANDS
from keras_genre.models.presets import PRESETS

REPOSITORY = documents.REPOSITORY
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_the_tables_in_a_document_are_what_their_commands_wrote(name):
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    assert documents.with_tables(text) == text


def test_every_result_stands_in_a_document():
    written = {path.relative_to(documents.RESULTS).as_posix() for path in documents.RESULTS.rglob("*.md")}
    texts = [(REPOSITORY / name).read_text(encoding="utf-8") for name in documents.DOCUMENTS]
    assert written == {match[1] for text in texts for match in documents.TABLE.findall(text)}


def test_the_readme_has_every_preset():
    assert {name for name in PRESETS if f"`{name}`" not in README} == set()


def test_every_module_that_the_readme_runs_answers_to_help():
    modules = set(re.findall(r"python -m (keras_genre\.\w+)", README))
    assert modules <= {f"keras_genre.{name}" for name in COMMANDS}


@pytest.mark.parametrize("flag", sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)) - {"--resume"}))
def test_every_flag_in_the_readme_is_a_flag_of_some_command(flag):
    known = _all_help()
    assert re.search(rf"{flag}(?![\w-])", known)


@functools.cache
def _all_help() -> str:
    texts = []
    commands = [(f"keras_genre.{name}",) for name in COMMANDS]
    commands += [("keras_genre.store", name) for name in ("info", "import", "export")]
    commands += [("keras_genre.datasets", name) for name in ("download", "validate")]
    for command in [*commands, ("tuning.search",), ("benchmarks.seed_systems",)]:
        words = [sys.executable, "-m", *command, "--help"]
        texts.append(subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)
    return "\n".join(texts)
