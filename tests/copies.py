"""Miniature copies of GTZAN and FMA-small on disk."""

import csv
import os

import numpy as np
import soundfile

# As in FMA's own table: two levels of names, the same names below several of them, and columns nobody here wants.
FMA_COLUMNS = [
    ("", ""),
    ("album", "id"),
    ("album", "title"),
    ("artist", "bio"),
    ("artist", "id"),
    ("set", "split"),
    ("set", "subset"),
    ("track", "genre_top"),
    ("track", "title"),
]


def write_audio(path, seconds=1.0, seed=0, rate=22050):
    """A file of noise, in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate))
    soundfile.write(path, samples, rate, format=path.suffix[1:].upper())
    return path


def write_gtzan(root, tracks, suffix=".au", **audio):
    """Files of GTZAN's tracks in folders of their genres."""
    for number, track in enumerate(tracks):
        write_audio(root / track.partition(".")[0] / f"{track}{suffix}", **({"seed": number} | audio))
    return root


def link_gtzan(root, tracks, file, suffix=".au"):
    """Tracks of GTZAN that are all one file."""
    for track in tracks:
        path = root / track.partition(".")[0] / f"{track}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, path)
    return root


def write_fma_table(path, rows):
    """`tracks.csv` of rows (number, genre, artist, split, subset)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([upper for upper, _ in FMA_COLUMNS])
        writer.writerow([lower for _, lower in FMA_COLUMNS])
        writer.writerow(["track_id", *[""] * (len(FMA_COLUMNS) - 1)])
        for number, genre, artist, split, subset in rows:
            values = {
                ("", ""): number,
                ("album", "id"): 7,
                ("album", "title"): 'One, "two",\nthree',
                ("artist", "bio"): "é" * 200_000 if number == rows[0][0] else "short",
                ("artist", "id"): artist,
                ("set", "split"): split,
                ("set", "subset"): subset,
                ("track", "genre_top"): genre,
                ("track", "title"): "x",
            }
            writer.writerow([values[column] for column in FMA_COLUMNS])
    return path


def fma_file(number):
    """The path of a track of FMA."""
    return f"{number // 1000:03d}/{number:06d}.mp3"
