"""From an audio file, or the bytes of one, to a mono waveform at a wanted rate.

The result is all of the audio, or an error that says why not. The numbers are those of `librosa.load`:
libsndfile decodes, the channels are averaged, soxr resamples.
"""

import contextlib
import dataclasses
import errno
import io
import math
import os
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from keras_genre import containers
from keras_genre.errors import (
    AudioError,
    AudioNotFoundError,
    AudioTooLongError,
    AudioTooShortError,
    EmptyFileError,
    NonFiniteAudioError,
    NoSamplesError,
    NotAFileError,
    NotAudioError,
    ParameterError,
    SilentAudioWarning,
    TruncatedAudioError,
    UnreachableAudioError,
)
from keras_genre.params import resampled_samples

AUDIO_EXTENSIONS = (
    ".aif",
    ".aifc",
    ".aiff",
    ".au",
    ".caf",
    ".flac",
    ".mp3",
    ".oga",
    ".ogg",
    ".opus",
    ".rf64",
    ".snd",
    ".w64",
    ".wav",
)
"""Suffixes, in lower case, of the files that a search for audio takes."""

MIN_SAMPLE_RATE_HZ = 1_000
MAX_SAMPLE_RATE_HZ = 1_000_000

_BLOCK_VALUES = 1 << 18
_UNKNOWN_FRAMES = 1 << 62


@dataclasses.dataclass(frozen=True)
class AudioLimits:
    """How long audio may be.

    Attributes
    ----------
    min_seconds : float >= 0
        Anything shorter is refused.
    max_seconds : float > 0
        Anything longer is refused; it also bounds the memory that decoding takes.
    """

    min_seconds: float = 0.0
    max_seconds: float = 3600.0

    def __post_init__(self) -> None:
        if not (0 <= self.min_seconds <= self.max_seconds and 0 < self.max_seconds < math.inf):
            raise ParameterError(
                f"min_seconds ({self.min_seconds}) and max_seconds ({self.max_seconds}) must be finite, "
                "not negative and in this order"
            )


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What the header of a file says.

    Attributes
    ----------
    sample_rate_hz, channels : int > 0
    frames : int >= 0, or None
        Samples of each channel; None where the header leaves it open.
    format, subtype : str
        Container and coding as libsndfile names them: `WAV` and `PCM_16`.
    """

    sample_rate_hz: int
    channels: int
    frames: int | None
    format: str
    subtype: str

    @property
    def seconds(self) -> float | None:
        """Duration; None where the header leaves it open."""
        return None if self.frames is None else self.frames / self.sample_rate_hz


def load(
    source: Path | str | bytes,
    sample_rate_hz: int,
    limits: AudioLimits | None = None,
    name: str | None = None,
) -> np.ndarray:
    """Decode audio, average its channels and resample it.

    Parameters
    ----------
    source : Path, str or bytes
        A file's path, or a file's content.
    sample_rate_hz : int in [1 000, 1 000 000]
        Rate of the result.
    limits : AudioLimits, optional
        How long the audio may be.
    name : str, optional
        What to call the audio in errors and warnings; by default its path, or `<bytes>`.

    Returns
    -------
    waveform : np.ndarray [shape=(samples,), float32]
        As many samples as the decoded ones times the ratio of the rates, rounded up. Full scale is -1 to 1,
        which lossy coding and resampling may exceed.

    Raises
    ------
    AudioError
        One of its kinds, for every source that is not whole, finite audio within the limits.
    ParameterError
        If `sample_rate_hz` is out of range.

    Warns
    -----
    SilentAudioWarning
        If all samples are zero.
    """
    limits = limits or AudioLimits()
    require_sample_rate(sample_rate_hz)
    with _opened(source, name) as (file, name), _decoder(file, name) as decoder:
        info = _info_of(decoder)
        require_not_too_long(info, limits, name)
        mixer = Mixer(info.sample_rate_hz, sample_rate_hz, limits, name)
        for block in _blocks(decoder, info, name):
            mixer.add(block)
        if mixer.frames == 0 and info.frames:
            raise TruncatedAudioError(f"{name}: none of the {info.frames} samples announced can be decoded")
        return mixer.finish()


def probe(source: Path | str | bytes, name: str | None = None) -> AudioInfo:
    """Read what the header says, and make sure that the file holds the audio which its container announces.

    Nothing is decoded, so a FLAC file that was cut, or damage inside of any file, shows only in `load`.

    Parameters
    ----------
    source : Path, str or bytes
        A file's path, or a file's content.
    name : str, optional
        What to call the audio in errors; by default its path, or `<bytes>`.

    Raises
    ------
    AudioError
        If there is no such file, or it is empty, not audio or cut short.
    """
    with _opened(source, name) as (file, name), _decoder(file, name) as decoder:
        return _info_of(decoder)


def require_decodable(source: Path | str | bytes, limits: AudioLimits | None = None, name: str | None = None) -> None:
    """Decode all of the audio and keep none of it: the check that headers cannot give.

    Parameters
    ----------
    source, limits, name
        As for `load`.

    Raises
    ------
    AudioError
        If decoding fails or ends before what the header announces, or the audio is longer than the limit.
    """
    limits = limits or AudioLimits()
    with _opened(source, name) as (file, name), _decoder(file, name) as decoder:
        info = _info_of(decoder)
        require_not_too_long(info, limits, name)
        frames = 0
        for block in _blocks(decoder, info, name):
            frames += len(block)
            require_not_too_long(dataclasses.replace(info, frames=frames), limits, name)


def require_sample_rate(sample_rate_hz: int) -> None:
    """Raise ParameterError if this package cannot resample to a rate."""
    if not MIN_SAMPLE_RATE_HZ <= sample_rate_hz <= MAX_SAMPLE_RATE_HZ:
        raise ParameterError(
            f"the sample rate must be {MIN_SAMPLE_RATE_HZ} to {MAX_SAMPLE_RATE_HZ} Hz, not {sample_rate_hz}"
        )


def require_not_too_long(info: AudioInfo, limits: AudioLimits, name: str) -> None:
    """Raise AudioTooLongError if a header announces more than the limit."""
    if info.seconds is not None and info.seconds > limits.max_seconds:
        raise AudioTooLongError(f"{name}: lasts {info.seconds:.1f} s, more than the limit of {limits.max_seconds:g} s")


class Mixer:
    """Turns blocks of decoded samples into one mono waveform at another rate, and checks them on the way.

    What it keeps is at the wanted rate and bounded by `limits`, whatever the rate and the number of channels
    of the source and however much it turns out to hold. The result does not depend on how the source is cut
    into blocks.

    Parameters
    ----------
    source_rate_hz, sample_rate_hz : int > 0
        Rates of what comes in and of what is wanted.
    limits : AudioLimits
        How long the audio may be.
    name : str
        What to call the audio in errors.
    """

    def __init__(self, source_rate_hz: int, sample_rate_hz: int, limits: AudioLimits, name: str):
        self.frames = 0
        self._source_rate_hz = source_rate_hz
        self._sample_rate_hz = sample_rate_hz
        self._limits = limits
        self._name = name
        self._is_silent = True
        self._parts: list[np.ndarray] = []
        self._resampler = None
        if source_rate_hz != sample_rate_hz:
            # "HQ" is what librosa calls soxr_hq.
            self._resampler = soxr.ResampleStream(source_rate_hz, sample_rate_hz, 1, dtype="float32", quality="HQ")

    def add(self, block: np.ndarray) -> None:
        """Take the next samples.

        Parameters
        ----------
        block : np.ndarray [shape=(frames, channels), float32]

        Raises
        ------
        AudioTooLongError, NonFiniteAudioError
        """
        self.frames += len(block)
        if self.frames > self._limits.max_seconds * self._source_rate_hz:
            raise AudioTooLongError(
                f"{self._name}: lasts longer than the limit of {self._limits.max_seconds:g} s, whatever its header says"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            mono = block.mean(axis=1)
        self._require_finite(mono)
        self._is_silent &= not mono.any()
        self._parts.append(mono if self._resampler is None else self._resampler.resample_chunk(mono))

    def finish(self) -> np.ndarray:
        """Return the waveform [shape=(samples,), float32].

        Raises
        ------
        NoSamplesError, AudioTooShortError, NonFiniteAudioError
        """
        if self.frames == 0:
            raise NoSamplesError(f"{self._name}: is well formed, but holds no samples")
        seconds = self.frames / self._source_rate_hz
        if seconds < self._limits.min_seconds:
            raise AudioTooShortError(
                f"{self._name}: lasts {seconds:.3g} s; at least {self._limits.min_seconds:.3g} s are needed"
            )
        if self._is_silent:
            warnings.warn(f"{self._name}: all samples are zero", SilentAudioWarning, stacklevel=3)
        if self._resampler is None:
            return np.concatenate(self._parts)
        self._parts.append(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        waveform = np.concatenate(self._parts)
        # The filter overshoots, and samples near the largest float overflow by that.
        self._require_finite(waveform)
        samples = resampled_samples(self.frames, self._source_rate_hz, self._sample_rate_hz)
        return np.pad(waveform[:samples], (0, max(samples - len(waveform), 0)))

    def _require_finite(self, samples: np.ndarray) -> None:
        if not np.isfinite(samples).all():
            raise NonFiniteAudioError(f"{self._name}: has samples that are NaN or infinite")


class _Bytes(io.BytesIO):
    """Bytes as a file that tolerates seeks to before its beginning: damaged headers make libsndfile try."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            # An exception could not pass through libsndfile; staying in place tells it that the seek failed.
            return self.tell()


class _Decoder(soundfile.SoundFile):
    """A sound file that is read from front to back.

    After every block, SoundFile seeks to where it already is. libsndfile's Opus decoder gives other samples
    after such a seek, and FLAC without a length fails on it.
    """

    def seekable(self) -> bool:
        return False


@contextlib.contextmanager
def _opened(source: Path | str | bytes, name: str | None) -> Iterator[tuple[BinaryIO, str]]:
    if isinstance(source, bytes):
        name = name or "<bytes>"
        if not source:
            raise EmptyFileError(f"{name}: has no bytes")
        yield _Bytes(source), name
        return
    name = name or os.fspath(source)
    try:
        file = _open_regular_file(source, name)
    except (OSError, ValueError) as error:
        raise _error_for(error, name) from error
    with file:
        yield file, name


def _open_regular_file(path: Path | str, name: str) -> BinaryIO:
    # Looking before opening: to open a FIFO would wait for its other end.
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise NotAFileError(f"{name}: is a folder, not an audio file")
    if not stat.S_ISREG(status.st_mode):
        raise NotAFileError(f"{name}: is a device, pipe or socket, not an audio file")
    if status.st_size == 0:
        raise EmptyFileError(f"{name}: has no bytes; copy or download it again")
    return open(path, "rb")


def _error_for(error: OSError | ValueError, name: str) -> AudioError:
    """Return the error to raise for what the operating system said about a file."""
    # A path with a NUL character is a ValueError: no file can have that name.
    number = error.errno if isinstance(error, OSError) else errno.ENOENT
    if number in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return AudioNotFoundError(f"{name}: there is no such file")
    if number in (errno.EACCES, errno.EPERM):
        return UnreachableAudioError(f"{name}: may not be read (permission denied)")
    return UnreachableAudioError(f"{name}: cannot be read: {error}")


@contextlib.contextmanager
def _decoder(file: BinaryIO, name: str) -> Iterator[soundfile.SoundFile]:
    try:
        kind = containers.container_of(file)
        missing = containers.missing_part(file)
        file.seek(0)
    except OSError as error:
        raise _error_for(error, name) from error
    if missing:
        raise TruncatedAudioError(f"{name}: {missing}; copy or download it again")
    try:
        decoder = _open_decoder(file)
    except RuntimeError as error:
        cause = f"looks like {kind}, but cannot be opened as that" if kind else "is of no known audio format"
        raise NotAudioError(f"{name}: {cause}; was it renamed or damaged?") from error
    with decoder:
        if not MIN_SAMPLE_RATE_HZ <= decoder.samplerate <= MAX_SAMPLE_RATE_HZ:
            raise NotAudioError(f"{name}: its header gives a sample rate of {decoder.samplerate} Hz, which cannot be")
        yield decoder


def _open_decoder(file: BinaryIO) -> soundfile.SoundFile:
    if isinstance(file, _Bytes):
        return _Decoder(file, closefd=False)
    # By its descriptor, not its name: from some suffixes libsndfile would guess headerless audio.
    descriptor = file.fileno()
    # Python's own seek may stay inside its buffer.
    os.lseek(descriptor, 0, os.SEEK_SET)
    try:
        return _Decoder(descriptor, closefd=False)
    except RuntimeError:
        # This suffix makes libsndfile look for an MP3 behind padding or junk, which many files begin with.
        if Path(file.name).suffix.lower() != ".mp3":
            raise
        return _Decoder(os.fspath(file.name))


def _info_of(decoder: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(
        sample_rate_hz=decoder.samplerate,
        channels=decoder.channels,
        frames=decoder.frames if decoder.frames < _UNKNOWN_FRAMES else None,
        format=decoder.format,
        subtype=decoder.subtype,
    )


def _blocks(decoder: soundfile.SoundFile, info: AudioInfo, name: str) -> Iterator[np.ndarray]:
    """Decode in blocks [shape=(frames, channels), float32] of bounded size."""
    block_frames = max(_BLOCK_VALUES // info.channels, 1)
    frames = 0
    try:
        # Never beyond what is announced: tags behind the audio would be taken for damaged audio.
        while wanted := block_frames if info.frames is None else min(block_frames, info.frames - frames):
            block = decoder.read(wanted, dtype="float32", always_2d=True)
            if not len(block):
                break
            frames += len(block)
            yield block
    except RuntimeError as error:
        raise _undecodable(info, frames, name) from error
    # Elsewhere the sizes were compared before, and what the header says may be an estimate.
    if info.format == "FLAC" and info.frames is not None and frames < info.frames:
        raise _undecodable(info, frames, name)


def _undecodable(info: AudioInfo, frames: int, name: str) -> AudioError:
    after = f"after {frames / info.sample_rate_hz:.2f} s"
    if info.format == "FLAC":
        announced = "" if info.seconds is None else f" of the {info.seconds:.2f} s that its header announces"
        return TruncatedAudioError(f"{name}: ends or is damaged {after}{announced}; copy or download it again")
    return NotAudioError(f"{name}: is damaged: {info.format} decoding fails {after}")
