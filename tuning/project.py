"""Search folders: what a search leaves, and how it is taken up again.

```
search.json           what is searched, on what: a search is only gone on with if this is the same
data/KIND/            the clips of the search; no test clip is among them
tuner/oracle.json     KerasTuner's state: the trials, and where the tuner is
trials/ID/            a trial: result.json or failure.txt, and a run folder for each fold and seed
tensorboard/ID/       hyperparameters and results for TensorBoard's HParams page
workers/              what the worker processes said
report.html  report.png
best/                 the winner, trained anew (--retrain-best)
```
"""

import json
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from keras_genre import files
from keras_genre.errors import SearchError

SEARCH = "search.json"
DATA, TUNER, TRIALS, TENSORBOARD, WORKERS = "data", "tuner", "trials", "tensorboard", "workers"
RESULT, FAILURE = "result.json", "failure.txt"
BEST = "best"

OWN_NAMES = {SEARCH, DATA, TUNER, TRIALS, TENSORBOARD, WORKERS, BEST, "report.html", "report.png"}
TUNER_FILES = ("oracle.json", "tuner0.json")


def versions() -> dict[str, str]:
    """Return the versions that the files of a search depend on."""
    return {"keras-tuner": metadata.version("keras-tuner")}


def read_search(out: Path) -> dict[str, Any]:
    """Read `search.json`.

    Raises
    ------
    SearchError
        If there is none or it is damaged.
    """
    file = out / SEARCH
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(values, dict) or "search" not in values or "versions" not in values:
            raise ValueError("no description of a search")
        return values
    except FileNotFoundError as error:
        raise SearchError(f"{out}: no search here ({SEARCH} is missing)") from error
    except (OSError, ValueError) as error:
        raise SearchError(f"{file}: damaged ({error}); start again in another --out") from error


def claim(out: Path, search: Mapping[str, Any]) -> bool:
    """Make `out` the folder of a search, or make sure that it is.

    Parameters
    ----------
    out : Path
    search : mapping
        What identifies the search, as JSON values.

    Returns
    -------
    bool
        Whether a search was begun there before.

    Raises
    ------
    SearchError
        If the folder holds another search, with the difference, or other files.
    """
    out.mkdir(parents=True, exist_ok=True)
    if not (out / SEARCH).is_file():
        foreign = sorted(path.name for path in out.iterdir() if path.name not in OWN_NAMES)
        strange = [name for name in TUNER_FILES if (out / name).exists() or (out / TUNER / name).exists()]
        if strange or any(name.startswith("trial_") for name in foreign):
            raise SearchError(
                f"{out}: holds files of KerasTuner that are not of a search of this command, or of an older version; "
                "name another --out"
            )
        if foreign:
            raise SearchError(f"{out}: is not empty and holds no search ({foreign[0]} is in it); name another --out")
        files.write_json(out / SEARCH, {"search": search, "versions": versions()})
        return False
    before = read_search(out)
    if before["versions"] != versions():
        changes = "; ".join(differences(before["versions"], versions()))
        raise SearchError(
            f"{out}: this search was made with another version, whose files cannot be relied on ({changes}); "
            "finish it with that version, or start again in another --out"
        )
    if changes := "; ".join(differences(before["search"], json.loads(json.dumps(search)))):
        raise SearchError(f"{out}: holds a search of other parameters or data ({changes}); name another --out")
    return True


def clear_leftovers(out: Path) -> None:
    """Remove what a killed process was writing of the tuner's state; only the holder of the folder may do this."""
    for leftover in (out / TUNER).glob(f"{files.PARTIAL_PREFIX}*"):
        leftover.unlink()


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """Return what differs between two JSON values, as `name: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in dict.fromkeys([*old, *new]):
            inner = f"{name}.{key}" if name else str(key)
            if key not in old:
                lines.append(f"{inner}: not there -> {new[key]}")
            elif key not in new:
                lines.append(f"{inner}: {old[key]} -> not there")
            else:
                lines += differences(old[key], new[key], inner)
        return lines
    return [] if old == new else [f"{name}: {old} -> {new}"]


def read_result(out: Path, trial: str) -> dict[str, Any] | None:
    """Return what a trial left in `result.json`; None if it is not there, or not whole."""
    try:
        values = json.loads((out / TRIALS / trial / RESULT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def write_failure(out: Path, trial: str, why: str) -> None:
    """Note why a trial failed: KerasTuner's protocol does not carry it to a chief."""
    files.write_text(out / TRIALS / trial / FAILURE, why + "\n")


def read_failure(out: Path, trial: str) -> str:
    """Return why a trial failed; empty if that is not known here."""
    try:
        return (out / TRIALS / trial / FAILURE).read_text(encoding="utf-8").strip()
    except OSError:
        return ""
