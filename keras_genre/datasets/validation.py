"""What is missing, corrupt or extra in a copy of a data set, by decoding all of it."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from keras_genre import audio
from keras_genre.datasets import fma, gtzan
from keras_genre.datasets.index import Listing
from keras_genre.errors import AudioError, DatasetError
from keras_genre.files import digest_of
from keras_genre.progress import Progress

MISSING, CORRUPT, EXTRA = "missing", "corrupt", "extra"

KNOWN_FAULTS = {
    # B. L. Sturm, arXiv:1306.1461.
    "gtzan": frozenset({"jazz.00054"}),
    # https://github.com/mdeff/fma/issues/8: the first three last 0.5 to 1.6 s, the others have no audio.
    "fma_small": frozenset({"098565", "098567", "098569", "099134", "108925", "133297"}),
}
"""Tracks that are corrupt as they were published."""

# Clips last 30 s, some of them a little more or less.
_LIMITS = audio.AudioLimits(min_seconds=25.0, max_seconds=60.0)
# What comes with the archives beside the audio.
_COMPANIONS = (".mf", "checksums", "README.txt")


@dataclasses.dataclass(frozen=True)
class Finding:
    """What is not as it should be.

    Attributes
    ----------
    kind : str
        `missing`, `corrupt` or `extra`.
    file : str
        Relative to the folder that was looked at, with `/`; of what is missing, the track.
    reason : str
        Why a file is corrupt; else empty.
    known : bool
        Whether the published data set has this fault.
    """

    kind: str
    file: str
    reason: str = ""
    known: bool = False

    def sentence(self) -> str:
        """Return it as a line for people."""
        known = " (known)" if self.known else ""
        return f"{self.kind}{known}: {self.file}{f': {self.reason}' if self.reason else ''}"


@dataclasses.dataclass(frozen=True)
class Validation:
    """What a copy of a data set is like.

    Attributes
    ----------
    data_set : str
        Its name.
    folder : Path
        The folder that findings are relative to.
    expected, whole : int
        Tracks that the data set has, and that are there and whole.
    findings : list of Finding
    """

    data_set: str
    folder: Path
    expected: int
    whole: int
    findings: list[Finding]

    @property
    def is_as_published(self) -> bool:
        """Whether there is no fault that the published data set does not have."""
        return all(finding.known for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**dataclasses.asdict(self), "folder": str(self.folder), "as_published": self.is_as_published}


def validate(name: str, folder: Path, threads: int | None = None) -> Validation:
    """Decode every track of a copy of GTZAN or FMA-small, and compare what is there with what should be.

    Parameters
    ----------
    name : str
        `gtzan` or `fma_small`.
    folder : Path
        Of the copy, in one of the layouts that `precompute` takes.
    threads : int, optional
        That decode; one a core by default.

    Raises
    ------
    DatasetError
        If there is no such data set in the folder.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; python -m keras_genre.datasets download {name} --out {folder}")
    listing: Listing
    if name == "gtzan":
        root = gtzan.require_gtzan(folder)
        files, listing = gtzan.tracks_in(root)
        expected = set(gtzan.TRACKS)
        checksums = {}
    else:
        root, table = fma.require_fma(folder)
        tracks = fma.read_tracks(table)
        files, listing = fma.tracks_in(root, tracks)
        expected = set(tracks)
        checksums = fma.read_checksums(root)
    known = KNOWN_FAULTS[name]
    unknown_files = [file for track, file in files.items() if track not in expected]
    present = {track: file for track, file in files.items() if track in expected}
    # A copy that lacks a track which nobody can use lacks nothing.
    findings = [Finding(MISSING, track, known=track in known) for track in sorted(expected - present.keys())]
    findings += [
        Finding(CORRUPT, present[track], reason, track in known)
        for track, reason in _unusable(root, present, checksums, threads or os.cpu_count() or 1)
    ]
    findings += [Finding(CORRUPT, file, reason) for file, reason in listing.failures]
    findings += [Finding(EXTRA, file) for file in sorted({*unknown_files, *_extra(listing.strays)})]
    whole = len(present) - sum(finding.file in present.values() for finding in findings if finding.kind == CORRUPT)
    return Validation(name, root, len(expected), whole, findings)


def _unusable(
    root: Path, files: Mapping[str, str], checksums: Mapping[str, str], threads: int
) -> list[tuple[str, str]]:
    """Return the tracks that cannot be decoded, or are not those that were published, with why."""

    def fault_of(file: str) -> str:
        return _fault_of(root / file, checksums.get(file, ""))

    with (
        Progress(len(files), "files") as progress,
        concurrent.futures.ThreadPoolExecutor(threads) as pool,
    ):
        try:
            reasons = {}
            for track, reason in zip(files, pool.map(fault_of, files.values()), strict=True):
                reasons[track] = reason
                progress.advance()
        except BaseException:
            # The pool waits for what has begun, not for thousands of files.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return sorted((track, reason) for track, reason in reasons.items() if reason)


def _fault_of(path: Path, sha1: str) -> str:
    """Decode a file and return what is wrong with it; empty if nothing is."""
    try:
        # At its own rate: nothing has to be resampled.
        audio.load(path, audio.probe(path).sample_rate_hz, _LIMITS)
    except AudioError as error:
        return str(error).removeprefix(f"{path}: ")
    if sha1 and digest_of(path, "sha1") != sha1:
        return "can be decoded, but is not the file that was published (its SHA-1 is another)"
    return ""


def _extra(strays: Iterable[str]) -> list[str]:
    """Leave out what comes with the archives, and what desktops put into every folder."""
    return [
        file
        for file in strays
        if not file.endswith(_COMPANIONS) and not any(part.startswith(".") for part in file.split("/"))
    ]
