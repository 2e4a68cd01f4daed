"""A run's report on the clips of a split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_genre import files, report
from keras_genre.clips import Clip
from keras_genre.errors import StoreError
from keras_genre.metrics import Scores, expected_calibration_error, reliability, softmax
from keras_genre.params import differences
from keras_genre.places import Place, place
from keras_genre.runs import (
    CONFUSION,
    PREDICTIONS,
    RELIABILITY,
    REPORT,
    REPORT_TEXT,
    RunInfo,
    are_other_contents,
    content_of,
    few_of,
    load_model,
    named_for,
    read_calibration,
    read_run,
)
from keras_genre.scoring import score_clips
from keras_genre.store import Store, open_store


def evaluate(run: Path, split: str = "test", data: Place | str | None = None) -> Scores:
    """Classify the whole clips of a split and write the report into the run folder.

    Writes `report.json`, `report.md`, `predictions.csv`, `confusion.png` and `reliability.png`; for a split other than
    `test` their names carry it.

    Parameters
    ----------
    run : Path
        The run folder.
    split : str
        `train`, `validation` or `test`.
    data : Path, RemotePath or str, optional
        The store; the one trained on by default, with the split that the run had.

    Returns
    -------
    Scores

    Raises
    ------
    RunError
        If the run has no network.
    StoreError
        If the store does not fit the run, has no clip of the split, or the run has seen one of `data`.
    """
    info = read_run(run)
    store = store_of_run(info, data)
    rows = store.rows_of(split)
    if not rows:
        have = ", ".join(sorted({clip.split for clip in store.clips if clip.split})) or "none"
        raise StoreError(f"{store.path}: no clip is in the split {split} (it has: {have})")
    clips = [store.clips[row] for row in rows]
    unseen_notes = require_unseen(info, clips, store.path) if data is not None else []
    logits = score_clips(load_model(run), store, rows)
    genres = list(info.genres)
    expected = np.array([genres.index(clip.genre) for clip in clips])
    scores = Scores.of(genres, expected, logits.argmax(axis=1))
    notes = [*info.notes, *unseen_notes]
    if data is not None and store.path.resolve() != place(info.data).resolve():
        notes.append(f"the clips are of {store.path}; whether their artists are in the training data is not known")
    probabilities = softmax(logits)
    error = expected_calibration_error(probabilities, expected)
    parts = reliability(probabilities, expected)
    values: dict[str, Any] = {
        "split": split,
        **scores.to_json(),
        "expected_calibration_error": error,
        "reliability": parts,
        "calibration": read_calibration(run),
        "notes": notes,
        "seed": info.params.seed,
        "preset": info.preset,
        "data": str(store.path),
        "versions": info.versions,
    }
    if info.devices:
        values["devices"] = list(info.devices)
    title = f"{info.preset} on {len(clips)} {split} clips"
    calibration = values["calibration"]
    fitted = "not fitted (too few validation clips, or the training was interrupted before it)"
    if calibration:
        fitted = f"{calibration['temperature']:.3f}, divided out"
    facts: dict[str, object] = {
        "expected calibration error": f"{error:.3f}",
        "temperature": fitted,
        "seed": info.params.seed,
        "data": store.path,
        "features": info.params.features,
        **({"devices": ", ".join(info.devices)} if info.devices else {}),
        **info.versions,
    }
    files.write_text(run / named_for(PREDICTIONS, split), predictions_csv(clips, genres, probabilities))
    report.save_figure(report.confusion_figure(scores, title), run / named_for(CONFUSION, split))
    report.save_figure(report.reliability_figure(parts, title), run / named_for(RELIABILITY, split))
    files.write_text(run / named_for(REPORT_TEXT, split), report.report_text(title, scores, notes, facts))
    files.write_json(run / named_for(REPORT, split), values)
    return scores


def store_of_run(info: RunInfo, data: Place | str | None) -> Store:
    """Open the store that a run is to be evaluated on.

    Without `data`, clips have the splits that they had in the run, whatever the store says now. With `data`, the
    store's own.

    Raises
    ------
    StoreError
        If features or genres are not those of the run.
    """
    store = open_store(data or info.data, info.params.features)
    if data is None:
        store = store.with_splits(info.splits)
    wanted = info.header.front_end
    if store.header.columns_of(info.params.features) != info.columns:
        raise StoreError(f"{store.path}: holds {store.header.kind}, the run was trained on {info.header.kind}")
    if wanted and store.header.front_end:
        changes = [line for line in differences(wanted, store.header.front_end) if not line.startswith("kind")]
        if changes:
            raise StoreError(f"{store.path}: other feature parameters than the run's ({'; '.join(changes)})")
    if unknown := sorted(set(store.genres) - set(info.genres)):
        raise StoreError(f"{store.path}: has genres that the run does not know: {', '.join(unknown)}")
    return store


def require_unseen(info: RunInfo, clips: Sequence[Clip], data: Place) -> list[str]:
    """Refuse clips of another store that a run was trained or chosen on, by their contents where these are known.

    Parameters
    ----------
    info : RunInfo
    clips : sequence of Clip
        The clips to be scored.
    data : Path or RemotePath
        Their store, for messages.

    Returns
    -------
    list of str
        What a reader of the score must know.

    Raises
    ------
    StoreError
        If one had a part in the training: its checksum is that of a clip of the run, whatever its name; or its name
        is, where the checksum of one of the two is not known.
    """
    own = {track for track, split in info.splits.items() if split in ("train", "validation")}
    contents = {info.contents[track] for track in own if track in info.contents}
    namesakes = {
        clip.track
        for clip in clips
        if clip.track in own and are_other_contents(content_of(clip), info.contents.get(clip.track, ""))
    }
    seen = [
        clip.track
        for clip in clips
        if content_of(clip) in contents or (clip.track in own and clip.track not in namesakes)
    ]
    if seen:
        raise StoreError(
            f"{data}: {len(seen)} of {len(clips)} clips had a part in the training of this run ({few_of(seen)}); a "
            "score on them would mean nothing. To score the run's own clips leave --data out"
        )
    if not namesakes:
        return []
    return [
        f"clips with the name of one that the run was trained on, and other bytes ({len(namesakes)}: "
        f"{few_of(sorted(namesakes))}): if they are the same music in another format, the score flatters"
    ]


def predictions_csv(clips: list[Clip], genres: list[str], probabilities: np.ndarray) -> str:
    """Return expected and predicted genre of each clip, and all probabilities, as CSV text."""
    lines: list[list[object]] = [["track", "expected", "predicted", "correct", "probability", *genres]]
    for clip, row in zip(clips, probabilities, strict=True):
        predicted = genres[int(row.argmax())]
        shares = [f"{share:.6f}" for share in row]
        correct = int(predicted == clip.genre)
        lines.append([clip.track, clip.genre, predicted, correct, f"{row.max():.6f}", *shares])
    return files.csv_text(lines)
