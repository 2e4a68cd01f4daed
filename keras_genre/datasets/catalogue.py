"""The data sets that can be downloaded: where they are, what vouches for them, and how large they are."""

import dataclasses
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / "data"


@dataclasses.dataclass(frozen=True)
class Archive:
    """A published archive file.

    Attributes
    ----------
    name : str
        Its file name; the suffix says what it is (`.zip`, `.tar.gz`).
    urls : tuple of str
        Where it is offered, in the order to try.
    size_bytes : int > 0
        Its exact size.
    algorithm, digest : str
        The published checksum: a name of `hashlib`, and hexadecimal digits.
    folder : str
        The one folder that it holds and that is wanted of it.
    max_unpacked_bytes, max_members : int > 0
        More than it really holds; an archive that claims more is refused.
    """

    name: str
    urls: tuple[str, ...]
    size_bytes: int
    algorithm: str
    digest: str
    folder: str
    max_unpacked_bytes: int
    max_members: int


@dataclasses.dataclass(frozen=True)
class DownloadableSet:
    """A data set that consists of archives.

    Attributes
    ----------
    name : str
        What commands call it, and its default folder below `data`.
    title : str
        What people call it.
    archives : tuple of Archive
        All are needed. The audio comes last, so that where it is the rest is too.
    terms : str
        What a user must know of the rights, in a sentence.
    """

    name: str
    title: str
    archives: tuple[Archive, ...]
    terms: str

    @property
    def default_folder(self) -> Path:
        """Where it is kept if no other folder is named."""
        return DATA / self.name

    def is_complete(self, folder: Path) -> bool:
        """Whether the folder of every archive is there; they appear whole."""
        return all((folder / archive.folder).is_dir() for archive in self.archives)


# MD5 as published by torchaudio and mirdata, size as by TensorFlow Datasets. The first address is the original one,
# which has been down for years and is tried because a data set's own address is the first that should serve it again.
GTZAN = DownloadableSet(
    name="gtzan",
    title="GTZAN",
    archives=(
        Archive(
            name="genres.tar.gz",
            urls=(
                "http://opihi.cs.uvic.ca/sound/genres.tar.gz",
                "https://huggingface.co/datasets/marsyas/gtzan/resolve/main/data/genres.tar.gz",
            ),
            size_bytes=1_225_571_541,
            algorithm="md5",
            digest="5b3d6dddb579ab49814ab86dba69e7c7",
            folder="genres",
            max_unpacked_bytes=2_000_000_000,
            max_members=5_000,
        ),
    ),
    terms="The recordings of GTZAN were never cleared for redistribution: use them for research, do not pass them on.",
)

# Checksums as published in the README of https://github.com/mdeff/fma, release of 2017-05-09.
FMA_SMALL = DownloadableSet(
    name="fma_small",
    title="FMA-small",
    archives=(
        Archive(
            name="fma_metadata.zip",
            urls=("https://os.unil.cloud.switch.ch/fma/fma_metadata.zip",),
            size_bytes=358_412_441,
            algorithm="sha1",
            digest="f0df49ffe5f2a6008d7dc83c6915b31835dfe733",
            folder="fma_metadata",
            max_unpacked_bytes=4_000_000_000,
            max_members=1_000,
        ),
        Archive(
            name="fma_small.zip",
            urls=("https://os.unil.cloud.switch.ch/fma/fma_small.zip",),
            size_bytes=7_679_594_875,
            algorithm="sha1",
            digest="ade154f733639d52e35e32f5593efe5be76c6d70",
            folder="fma_small",
            max_unpacked_bytes=12_000_000_000,
            max_members=20_000,
        ),
    ),
    terms="Each track of FMA has the licence that its artist chose: tracks.csv gives it as ('track', 'license').",
)

CATALOGUE = {data_set.name: data_set for data_set in (GTZAN, FMA_SMALL)}
