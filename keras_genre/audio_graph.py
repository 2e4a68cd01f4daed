"""Decoding inside a `tf.data` pipeline: tensorflow_io's decoders where they can be trusted, soundfile elsewhere.

Both give the same numbers, so tensorflow_io need not be there. Where its operations load they decode 16-bit WAV,
16-bit FLAC, Ogg Vorbis and MP3. They take no other coding correctly, abort or hang on some damaged files and
lose the sample rate. Hence nothing reaches them that has not passed the checks of `keras_genre.audio`, and what
they give is taken only if it has the announced shape.
"""

import functools
import importlib
import os
import struct
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genre import audio
from keras_genre.audio import AudioInfo, AudioLimits


def waveforms(
    paths: Iterable[Path | str],
    sample_rate_hz: int,
    limits: AudioLimits | None = None,
    parallel_calls: int = tf.data.AUTOTUNE,
) -> tf.data.Dataset:
    """Make a data set of the waveforms of audio files, in the order of the paths.

    Parameters
    ----------
    paths : iterable of Path or str
    sample_rate_hz : int in [1 000, 1 000 000]
        Rate of the waveforms.
    limits : AudioLimits, optional
        How long the audio may be.
    parallel_calls : int
        How many files are decoded at a time; by default as many as tf.data finds good.

    Returns
    -------
    tf.data.Dataset of (path, waveform)
        path : string scalar
        waveform : float32 [shape=(samples,)]

    Raises
    ------
    ParameterError
        If `sample_rate_hz` is out of range.
    tf.errors.OpError
        In iteration, for a file that `keras_genre.audio.load` refuses; the message contains that of the error.
        The data set can be iterated on behind it, and `ignore_errors` skips such files.
    """
    audio.require_sample_rate(sample_rate_hz)
    limits = limits or AudioLimits()

    def load(path: tf.Tensor) -> np.ndarray:
        return _load_file(os.fsdecode(path.numpy()), sample_rate_hz, limits)

    def with_waveform(path: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return path, _vector(tf.py_function(load, [path], tf.float32))

    names = tf.constant([os.fsencode(path) for path in paths], tf.string)
    return tf.data.Dataset.from_tensor_slices(names).map(with_waveform, parallel_calls, deterministic=True)


def decode(
    encoded: tf.Tensor, sample_rate_hz: int, limits: AudioLimits | None = None, name: str = "<bytes>"
) -> tf.Tensor:
    """Decode the content of an audio file; for use in `tf.data.Dataset.map` and in `tf.function`.

    Parameters
    ----------
    encoded : tf.Tensor [shape=(), string]
        What is in the file.
    sample_rate_hz : int in [1 000, 1 000 000]
        Rate of the waveform.
    limits : AudioLimits, optional
        How long the audio may be.
    name : str
        What to call the audio in errors and warnings.

    Returns
    -------
    waveform : tf.Tensor [shape=(samples,), float32]
        What `keras_genre.audio.load` gives, within 2e-6; of an MP3 that is damaged inside, as many samples, but
        other ones around the damage.

    Raises
    ------
    ParameterError
        If `sample_rate_hz` is out of range.
    tf.errors.OpError
        When run, on bytes that `keras_genre.audio.load` refuses; the message contains that of the error.
    """
    audio.require_sample_rate(sample_rate_hz)
    limits = limits or AudioLimits()

    def load(content: tf.Tensor) -> np.ndarray:
        return _load_bytes(content.numpy(), sample_rate_hz, limits, name)

    return _vector(tf.py_function(load, [encoded], tf.float32))


@functools.cache
def tensorflow_io_available() -> bool:
    """Tell whether tensorflow_io is installed and its operations work with this TensorFlow."""
    try:
        with warnings.catch_warnings():
            # Beside a TensorFlow that it was not built for, importing it only warns; the first use fails.
            warnings.simplefilter("ignore")
            decoded = _tfio_audio().decode_wav(_wav_header(frames=2) + b"\0\0\1\0", dtype=tf.int16)
    except (ImportError, AttributeError, NotImplementedError, tf.errors.OpError):
        return False
    return decoded.shape == (2, 1)


def _vector(waveform: tf.Tensor) -> tf.Tensor:
    waveform.set_shape([None])
    return waveform


def _load_file(path: str, sample_rate_hz: int, limits: AudioLimits) -> np.ndarray:
    # Without tensorflow_io a file need not be in memory as a whole.
    if not tensorflow_io_available():
        return audio.load(path, sample_rate_hz, limits)
    audio.require_not_too_long(audio.probe(path), limits, path)
    return _load_bytes(Path(path).read_bytes(), sample_rate_hz, limits, path)


def _load_bytes(encoded: bytes, sample_rate_hz: int, limits: AudioLimits, name: str) -> np.ndarray:
    if tensorflow_io_available():
        info = audio.probe(encoded, name)
        audio.require_not_too_long(info, limits, name)
        samples = _tensorflow_io_samples(encoded, info, limits, name)
        if samples is not None:
            mixer = audio.Mixer(info.sample_rate_hz, sample_rate_hz, limits, name)
            mixer.add(samples)
            return mixer.finish()
    return audio.load(encoded, sample_rate_hz, limits, name)


def _tensorflow_io_samples(encoded: bytes, info: AudioInfo, limits: AudioLimits, name: str) -> np.ndarray | None:
    """Decode with tensorflow_io [shape=(frames, channels), float32]; None if that is not to be trusted here."""
    decoder = _DECODERS.get((info.format, info.subtype))
    if decoder is None or not info.frames:
        return None
    if info.format == "WAV" and encoded[:_WAV_HEADER_BYTES] != _wav_header(
        info.frames, info.channels, info.sample_rate_hz
    ):
        # Its WAV parser reads beyond the end where sizes disagree, so it gets the plainest header only.
        return None
    if info.format == "FLAC":
        # Its FLAC decoder hangs on some damaged frames. To know that there are none takes decoding them, which
        # libsndfile does several times faster.
        audio.require_decodable(encoded, limits, name)
    try:
        with tf.device("/CPU:0"):
            samples = decoder(_tfio_audio(), encoded).numpy()
    except tf.errors.OpError:
        return None
    return samples if samples.shape == (info.frames, info.channels) else None


def _from_16_bit(samples: tf.Tensor) -> tf.Tensor:
    return tf.cast(samples, tf.float32) / 32768.0


_DECODERS: dict[tuple[str, str], Callable[[Any, bytes], tf.Tensor]] = {
    ("WAV", "PCM_16"): lambda ops, encoded: _from_16_bit(ops.decode_wav(encoded, dtype=tf.int16)),
    ("FLAC", "PCM_16"): lambda ops, encoded: _from_16_bit(ops.decode_flac(encoded, dtype=tf.int16)),
    ("OGG", "VORBIS"): lambda ops, encoded: ops.decode_vorbis(encoded),
    ("MP3", "MPEG_LAYER_III"): lambda ops, encoded: ops.decode_mp3(encoded),
}

_WAV_HEADER_BYTES = 44


def _wav_header(frames: int, channels: int = 1, sample_rate_hz: int = 8000) -> bytes:
    """Return the header of a 16-bit WAV file that holds its audio and nothing else."""
    frame_bytes = 2 * channels
    audio_bytes = frame_bytes * frames
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", _WAV_HEADER_BYTES - 8 + audio_bytes, b"WAVE"),
        *(b"fmt ", 16, 1, channels, sample_rate_hz, frame_bytes * sample_rate_hz, frame_bytes, 16),
        *(b"data", audio_bytes),
    )


def _tfio_audio() -> Any:
    # Here, not on top: the import takes seconds and is not needed where no audio is decoded in a graph.
    return importlib.import_module("tensorflow_io").audio
