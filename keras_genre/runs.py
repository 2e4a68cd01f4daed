"""Run folders: what a training leaves, and how it is opened again.

```
run.json         parameters, seed, data, versions
model.keras      the network of the best epoch by validation
history.csv      a row per epoch
checkpoint.npz   all that a resume needs: weights, optimizer, schedule, history
calibration.json the temperature that was fitted on the validation clips, and divided out of the network
*.png  report.json  report.md  predictions.csv
```
"""

import csv
import dataclasses
import io
import json
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from keras_genre import files
from keras_genre.clips import Clip
from keras_genre.errors import ParameterError, RunError
from keras_genre.params import TrainParams, from_json, to_json
from keras_genre.store import StoreHeader

RUN, MODEL, HISTORY, CHECKPOINT = "run.json", "model.keras", "history.csv", "checkpoint.npz"
REPORT, REPORT_TEXT, PREDICTIONS, CONFUSION = "report.json", "report.md", "predictions.csv", "confusion.png"
RELIABILITY, CALIBRATION = "reliability.png", "calibration.json"

CONTENT_DIGITS = 16
"""So many digits of a checksum, 64 bits, tell all clips apart that a collection may hold."""

IMPORTED = "frames:"
"""Before the checksum of a clip's frames, which is no checksum of its audio."""

HISTORY_COLUMNS = ("epoch", "learning_rate", "loss", "accuracy", "val_loss", "val_accuracy", "seconds")


@dataclasses.dataclass(frozen=True)
class RunInfo:
    """What a run folder says of itself.

    Attributes
    ----------
    preset : str
        Name of the preset that the parameters were taken from.
    params : TrainParams
        The parameters as used.
    header : StoreHeader
        The features trained on. `columns` of them, the first, are the network's input.
    columns : int
    genres : tuple of str
        The network's outputs.
    data : str
        The store's path.
    splits : dict
        Track -> split, of every clip that had a part in the run.
    notes : tuple of str
        What a reader of the result must know of the data.
    versions : dict
        Of Python and the libraries.
    devices : tuple of str
        Those that shared the training, such as `GPU:0`; empty if none were named.
    contents : dict
        Track -> `content_of` the clip, of those in `splits` whose checksum is known.
    """

    preset: str
    params: TrainParams
    header: StoreHeader
    columns: int
    genres: tuple[str, ...]
    data: str
    splits: dict[str, str]
    notes: tuple[str, ...]
    versions: dict[str, str]
    devices: tuple[str, ...] = ()
    contents: dict[str, str] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the content of `run.json`; it speaks of devices and contents only where there are some."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        for name in ("devices", "contents"):
            if not values[name]:
                del values[name]
        return values | {"params": to_json(self.params), "header": to_json(self.header)}


def content_of(clip: Clip) -> str:
    """Return what tells a clip from others whatever their names: digits of its checksum; empty if that is not known.

    Of a clip without an audio file it is the checksum of its frames, which says so: it can be compared with its like.
    """
    if not clip.sha256:
        return ""
    return ("" if clip.file else IMPORTED) + clip.sha256[:CONTENT_DIGITS]


def contents_of(clips: Iterable[Clip]) -> dict[str, str]:
    """Return the contents of the clips that a run is to record: of those in a split. Copies have their originals'."""
    found = {clip.track: content_of(clip) for clip in clips if clip.split and not clip.variant}
    return {track: content for track, content in found.items() if content}


def are_other_contents(one: str, other: str) -> bool:
    """Tell whether two contents, of which either may not be known, are of different clips for certain."""
    return bool(one and other) and one != other and one.startswith(IMPORTED) == other.startswith(IMPORTED)


def few_of(tracks: Sequence[str]) -> str:
    """Return the first names of many, for a message."""
    return ", ".join([*tracks[:5], *["..."] * (len(tracks) > 5)])


def read_run(path: Path | str) -> RunInfo:
    """Read `run.json` of a run folder.

    Raises
    ------
    RunError
        If there is none or it is damaged.
    """
    file = Path(path) / RUN
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return RunInfo(
            preset=values["preset"],
            params=from_json(TrainParams, values["params"]),
            header=from_json(StoreHeader, values["header"]),
            columns=values["columns"],
            genres=tuple(values["genres"]),
            data=values["data"],
            splits=dict(values["splits"]),
            notes=tuple(values["notes"]),
            versions=dict(values["versions"]),
            devices=tuple(map(str, values.get("devices", ()))),
            contents={track: str(content) for track, content in dict(values.get("contents", {})).items()},
        )
    except FileNotFoundError as error:
        raise RunError(f"{path}: no run here ({RUN} is missing); train one with python -m keras_genre.train") from error
    except (OSError, ValueError, KeyError, TypeError, ParameterError) as error:
        raise RunError(f"{file}: damaged ({error})") from error


def require_audio_run(run: Path, info: RunInfo) -> None:
    """Refuse a run that was trained on features which cannot be computed from audio here.

    Raises
    ------
    RunError
    """
    if info.header.front_end is None:
        raise RunError(
            f"{run}: was trained on imported features ({info.header.kind}), which cannot be computed from audio; "
            "train on a store of python -m keras_genre.precompute"
        )


def load_model(path: Path | str):
    """Load the network of a run folder, in Keras's safe mode: no code from the file is run.

    Raises
    ------
    RunError
        If the run has no network yet, or the file is damaged.
    """
    import keras

    file = Path(path) / MODEL
    if not file.is_file():
        raise RunError(f"{path}: no {MODEL}; the training has not finished an epoch (go on with train --resume)")
    try:
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged:
            raise RunError(f"{file}: damaged ({damaged} differs from its checksum)")
        return keras.models.load_model(file, compile=False, safe_mode=True)
    except RunError:
        raise
    except Exception as error:  # Keras lets whatever its parsers raise through.
        raise RunError(f"{file}: cannot be loaded ({error})") from error


def history_to_csv(rows: Sequence[dict[str, float]]) -> str:
    """Write a history as CSV text; numbers keep all their digits."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, HISTORY_COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def read_history(path: Path | str) -> list[dict[str, float]]:
    """Read `history.csv` of a run folder.

    Raises
    ------
    RunError
        If it is missing, empty or damaged.
    """
    file = Path(path) / HISTORY
    try:
        text = file.read_text(encoding="utf-8")
        rows = [
            {name: float(value) for name, value in row.items() if value} for row in csv.DictReader(io.StringIO(text))
        ]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"{file}: cannot be read ({error})") from error
    needed = {"epoch", "learning_rate", "loss", "accuracy"}
    # Validated are all epochs or none; a line without an end was cut.
    is_whole = text.endswith("\n") and bool(rows)
    if not is_whole or not all(needed <= set(row) and ("val_loss" in row) == ("val_loss" in rows[0]) for row in rows):
        raise RunError(f"{file}: damaged; go on with the run by train --resume")
    return rows


def read_calibration(run: Path) -> dict[str, Any] | None:
    """Read `calibration.json` of a run; None if there is none.

    Raises
    ------
    RunError
        If it is damaged.
    """
    path = run / CALIBRATION
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return {name: float(values[name]) for name in ("temperature", "clips", "error_before", "error_after")}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error}); train --resume writes it again") from error


def best_epoch(history: Sequence[dict[str, float]]) -> int:
    """Return the place in a history of the epoch whose network is kept.

    It is the one with the lowest cross-entropy on the validation clips, which on few clips says more than the
    accuracy; without validation it is the last.
    """
    if "val_loss" not in history[-1]:
        return len(history) - 1
    return min(range(len(history)), key=lambda place: history[place]["val_loss"])


def has_stopped_early(history: Sequence[dict[str, float]], params: TrainParams) -> bool:
    """Tell whether a training with this history has ended for want of a better epoch, so that none is added."""
    patience = params.early_stopping_epochs
    return bool(patience and history) and len(history) - 1 - best_epoch(history) >= patience


def named_for(file: str, split: str) -> str:
    """Return a report file's name for a split: `report.json` for test, `report_validation.json` for validation."""
    stem, suffix = file.rsplit(".", 1)
    return file if split == "test" else f"{stem}_{split}.{suffix}"


def write_run(path: Path, info: RunInfo) -> None:
    """Write `run.json`."""
    files.write_json(path / RUN, info.to_json())
