"""The figures in the documents are the ones that the benchmarks wrote, and what they name exists."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from keras_genre.__main__ import COMMANDS
from keras_genre.models.presets import PRESETS

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
DOCUMENTS = {"README.md": README, "docs/results.md": (REPOSITORY / "docs" / "results.md").read_text(encoding="utf-8")}
INCLUDED = [
    (name, result, text)
    for name, document in DOCUMENTS.items()
    for result, text in re.findall(r"<!-- (\S+\.md) -->\n(.*?)\n<!-- end -->", document, re.DOTALL)
]


@pytest.mark.parametrize(("document", "result"), [(name, result) for name, result, _ in INCLUDED])
def test_a_table_in_a_document_is_what_its_command_wrote(document, result):
    text = next(text for name, path, text in INCLUDED if (name, path) == (document, result))
    assert text.strip() == (RESULTS / result).read_text(encoding="utf-8").strip()


def test_every_result_stands_in_a_document():
    written = {str(path.relative_to(RESULTS)) for path in RESULTS.rglob("*.md")}
    assert written == {result for _, result, _ in INCLUDED}


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
    for command in [*commands, ("benchmarks.seed_systems",)]:
        words = [sys.executable, "-m", *command, "--help"]
        texts.append(subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout)
    return "\n".join(texts)
