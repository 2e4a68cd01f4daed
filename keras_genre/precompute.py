"""From a data set of audio to a feature store, on all cores.

Command: `python -m keras_genre.precompute SOURCE --features spectral33 --out STORE`.
"""

import argparse
import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_genre import cli
from keras_genre.augmentation import ORIGINAL_VARIANTS, VARIANTS, copies_follow, copies_of, heard
from keras_genre.clips import Clip, genres_of
from keras_genre.encodings import ENCODINGS
from keras_genre.errors import ParameterError
from keras_genre.extract import Extracted, Job, LocalWorkers, Workers
from keras_genre.params import FEATURE_DIMS, FrontEndParams
from keras_genre.places import local_path
from keras_genre.progress import Progress, format_seconds
from keras_genre.store import Store, StoreHeader, StoreWriter

DEFAULT_MIN_SECONDS = 3.0
DEFAULT_MAX_SECONDS = 3600.0


def precompute(
    root: Path,
    clips: Sequence[Clip],
    header: StoreHeader,
    out: Path,
    *,
    workers: Workers | None = None,
    overwrite: bool = False,
    unread: Sequence[tuple[str, str]] = (),
    min_seconds: float = DEFAULT_MIN_SECONDS,
    max_seconds: float = DEFAULT_MAX_SECONDS,
) -> Store:
    """Compute a store, or what is missing of one.

    Parameters
    ----------
    root : Path
        What the clips' files are relative to.
    clips : sequence of Clip
        The data set.
    header : StoreHeader
        With the front end to use.
    out : Path
        The store's folder. Shards of an earlier call that are still right are kept.
    workers : Workers, optional
        Where the work is done; a process a core of this machine by default.
    overwrite : bool
        Compute all anew.
    unread : sequence of (file, why)
        Failures of the index, to be recorded with the others.
    min_seconds, max_seconds : float
        Shorter and longer files are failures.

    Returns
    -------
    Store
        Finished; its `failures` name the files that gave no features.

    Raises
    ------
    StoreError
        If the folder holds something else, or a store of other parameters or limits; or no file could be used.
    """
    if header.front_end is None:
        raise ParameterError("a store is precomputed with a front end")
    from keras_genre.audio import AudioLimits

    limits = dataclasses.asdict(AudioLimits(min_seconds, max_seconds))
    # Workers may have another working directory.
    root = root.absolute()
    with StoreWriter(out, header, clips, overwrite=overwrite, limits=limits) as writer:
        shards = writer.missing()
        jobs = [
            Job(
                root / clip.file,
                clip.file,
                header.front_end.sample_rate_hz,
                min_seconds,
                max_seconds,
                header.front_end,
                clip.variant,
                clip.original_track,
            )
            for _, members in shards
            for clip in members
        ]
        results = (workers or LocalWorkers(os.cpu_count() or 1)).run(jobs)
        with Progress(len(clips), "clips", done=writer.clips_done) as progress:
            for number, members in shards:
                extracted = list(_watched(results, members, progress))
                # The store names the file beside the reason.
                frames = [
                    result.error.removeprefix(f"{clip.file}: ") if result.frames is None else result.frames
                    for clip, result in zip(members, extracted, strict=True)
                ]
                writer.add(number, frames, is_final=not any(result.may_pass for result in extracted))
        return writer.finish(unread)


def _watched(results: Iterator[Extracted], clips: Sequence[Clip], progress: Progress) -> Iterator[Extracted]:
    for _ in clips:
        result = next(results)
        for warning in result.warnings:
            progress.say(f"warning: {warning}")
        if result.frames is None:
            progress.say(f"left out: {result.error}")
        progress.advance()
        yield result


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command."""
    from keras_genre.datasets.options import add_split_options

    parser = cli.parser("keras_genre.precompute", "Compute a feature store from a data set of audio files.")
    parser.add_argument(
        "source",
        help="a folder of genre folders, a CSV list (track, genre, file[, group, split]), or a copy of GTZAN or "
        "FMA-small; gtzan or fma_small: what python -m keras_genre.datasets has downloaded",
    )
    parser.add_argument(
        "--dataset",
        default="auto",
        choices=("auto", "folder", "gtzan", "fma_small"),
        help="what a folder is; auto: GTZAN if all tracks are named like blues/blues.00000.au (or .wav, ...), FMA if "
        "there are tracks like 000/000002.mp3, else a folder of genre folders",
    )
    parser.add_argument("--features", default="spectral33", choices=sorted(FEATURE_DIMS), help="feature kind")
    parser.add_argument(
        "--rms-dbfs",
        type=float,
        metavar="DB",
        help="bring every clip to this root mean square in dB of full scale, such as -17, so that its loudness does "
        "not matter (default: as loud as it is)",
    )
    parser.add_argument("--out", type=local_path, required=True, metavar="STORE", help="folder of the store")
    parser.add_argument("--jobs", type=int, metavar="N", help="worker processes (default: one a core)")
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        help="compute on a Ray cluster, HOST:PORT or auto, whose machines have this package and the files at the same "
        "place; local: on one of its own on this machine, for as long as it takes",
    )
    parser.add_argument(
        "--encoding",
        default="float32",
        choices=ENCODINGS,
        help="how numbers are kept: exactly, or in less room",
    )
    parser.add_argument(
        "--min-seconds",
        type=float,
        default=DEFAULT_MIN_SECONDS,
        metavar="S",
        help="shorter files are left out",
    )
    parser.add_argument(
        "--max-seconds",
        type=float,
        default=DEFAULT_MAX_SECONDS,
        metavar="S",
        help="longer files are left out",
    )
    parser.add_argument(
        "--augment",
        nargs="?",
        choices=("train", "folds"),
        const="train",
        help="add altered copies of every training clip, those of --variants; folds: of the validation clips too, for "
        "train --folds (copies only ever train, and only with their original)",
    )
    parser.add_argument(
        "--variants",
        nargs="+",
        choices=VARIANTS,
        help="what --augment makes a copy of each clip with: noise; half or twice the gain; pitch, higher or lower by "
        f"up to two semitones; tempo, faster or slower by a tenth (default: {' '.join(ORIGINAL_VARIANTS)})",
    )
    parser.add_argument("--overwrite", action="store_true", help="start anew, whatever the store holds")
    add_split_options(parser)
    return parser


def _workers(options: argparse.Namespace) -> contextlib.AbstractContextManager[Workers]:
    if options.ray is None:
        return contextlib.nullcontext(LocalWorkers(options.jobs or os.cpu_count() or 1))
    from keras_genre.ray_workers import ray_workers

    return ray_workers(options.ray, options.jobs)


@cli.command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    options = make_parser().parse_args(argv)
    if options.jobs is not None and options.jobs < 1:
        raise ParameterError("--jobs must be at least 1")
    if options.variants and not options.augment:
        raise ParameterError("--variants says what --augment makes; give both")

    from keras_genre.datasets.options import apply_split_options
    from keras_genre.datasets.sources import find_source

    started = time.monotonic()
    source = find_source(options.source, options.dataset)
    found = source.index
    clips, notes = apply_split_options(found.clips, options, source.default_list)
    for note in (*source.notes, *notes):
        cli.say(f"note: {note}")
    front_end = dataclasses.replace(FrontEndParams.of(options.features), rms_dbfs=options.rms_dbfs)
    if options.augment:
        copied = ("train",) if options.augment == "train" else ("train", "validation")
        wanted = tuple(dict.fromkeys(options.variants or ORIGINAL_VARIANTS))
        variants = heard(wanted, front_end)
        if variants != wanted:
            cli.say(f"note: copies at another gain would have the same {front_end.kind}; there are none")
        copies = copies_of((clip for clip in clips if clip.split in copied), variants)
        clips = copies_follow([*clips, *copies], clips)
    with _workers(options) as workers:
        store = precompute(
            found.root,
            clips,
            StoreHeader.of(front_end, options.encoding),
            options.out,
            workers=workers,
            overwrite=options.overwrite,
            unread=found.failures,
            min_seconds=options.min_seconds,
            max_seconds=options.max_seconds,
        )
    cli.say(
        f"{options.out}: {len(store.clips)} clips of {len(genres_of(store.clips))} genres, {sum(store.frames)} frames "
        f"of {store.header.dims}, in {format_seconds(time.monotonic() - started)}"
    )
    # A file that fails does so for its altered copies too.
    for file, why in dict.fromkeys(store.failures):
        cli.say(f"failed: {file}: {why}")
    return cli.SOME_FAILED if store.failures else cli.DONE


if __name__ == "__main__":
    sys.exit(main())
