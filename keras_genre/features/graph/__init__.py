"""The feature kinds in TensorFlow operations: the twin of `features.reference` for graphs, exports and speed.

`features.reference`, that is librosa, is the definition; the twin keeps within the tolerances below of it, which
`tests/test_features_graph.py` holds against real music and made-up signals.

| | largest difference | seen on music |
|---|---|---|
| MFCC | 1e-3 | 1.3e-4 |
| spectral centroid | 0.05 Hz | 2e-3 Hz |
| chroma | 1e-3 | 2e-6 |
| spectral contrast | 0.1 dB | 2e-5 dB |
| log-mel | 1e-3 dB | 2e-5 dB |
| its levels | 1e-2 of 255 | 1e-4 |
| musicnn's log-mel | 1e-4 | 1e-6 |
| tag activations | 1e-4 | 1e-6 |

Where librosa's own result hangs by a rounding error, another implementation cannot follow it:

- The tuning is the fullest of 100 bins of a histogram of pitches. Where two bins hold nearly the same number, a
  single pitch that crosses an edge decides, and chroma follows the other tuning.
- Peaks of a flat spectrum, like that of a lone impulse, are peaks of rounding noise, and so is the tuning there.
- TensorFlow takes numbers below 1.2e-38 for zero, so waveforms below about 1e-19 of full scale are silence here.

All values are finite for all finite input: samples beyond 1e14 are taken for 1e14.
"""

import functools
from collections.abc import Callable

import keras
import tensorflow as tf

from keras_genre.errors import ParameterError
from keras_genre.features.filters import MUSICNN_BANDS
from keras_genre.features.graph.chroma import chroma12
from keras_genre.features.graph.contrast import contrast7
from keras_genre.features.graph.mel import (
    MEL_BANDS,
    log_mel128,
    log_mel128_levels,
    mel_power,
    mfcc13,
    musicnn_mel96,
    musicnn_mel_power,
)
from keras_genre.features.graph.spectrum import bands_of_power, centroid1, levelled, power_spectrogram
from keras_genre.features.graph.tagger import tagged
from keras_genre.params import TAGGER_KINDS, FrontEndParams

__all__ = [
    "log_mel128",
    "log_mel128_levels",
    "mfcc13",
    "musicnn_mel96",
    "power_spectrogram",
    "spectral33",
    "tagged",
    "waveforms_to_frames",
]


def waveforms_to_frames(waveforms: tf.Tensor, params: FrontEndParams, tagger: keras.Model | None = None) -> tf.Tensor:
    """Turn waveforms into feature frames of the kind that `params` names.

    The clips go through one by one: each has its own tuning and its own loudest bin, and its numbers do not
    depend on what else is in the batch.

    Parameters
    ----------
    waveforms : tf.Tensor [shape=(batch, samples), float32]
        At least one clip. Mono, in [-1, 1], at `params.sample_rate_hz`; any length, which all clips of the batch
        share. Padding them to one length is the caller's matter: zeros behind a clip give frames of silence.
    params : FrontEndParams
        Kind, sample rate, FFT length, hop.
    tagger : keras.Model, optional
        What `keras_genre.models.musicnn.musicnn` builds; for the kinds that it computes, `TAGGER_KINDS`.

    Returns
    -------
    tf.Tensor [shape=(batch, params.frames_of(samples), dims), float32]
        As `features.reference.waveform_to_frames` returns for each clip.

    Raises
    ------
    ParameterError
        While the graph is built, if the kind cannot be computed with these parameters, or not without a tagger.
    """
    if params.kind in TAGGER_KINDS and tagger is None:
        raise ParameterError(f"{params.kind} is computed by a network; give one, or use features.layers.FrontEnd")

    def frames_of(waveform: tf.Tensor) -> tf.Tensor:
        # One column a frame in librosa, one row a frame here.
        features = tf.transpose(_features(levelled(waveform, params), params, tagger))
        return features[: 1 + tf.size(waveform) // params.hop_samples]

    return tf.map_fn(frames_of, waveforms, fn_output_signature=tf.TensorSpec([None, params.dims], tf.float32))


def _features(waveform: tf.Tensor, params: FrontEndParams, tagger: keras.Model | None) -> tf.Tensor:
    """Return the features of a waveform [shape=(dims, frames)], and perhaps some of silence behind them."""
    if params.kind == "spectral33":
        return spectral33(power_spectrogram(waveform, params), params)
    bands, of_power = (MUSICNN_BANDS, musicnn_mel_power) if params.kind in _OF_MUSICNN_MEL else (MEL_BANDS, mel_power)
    mel = bands_of_power(waveform, params, bands, functools.partial(of_power, params=params))
    if params.kind not in _FRAMES_APART:
        mel = mel[:, : 1 + tf.size(waveform) // params.hop_samples]
    if params.kind in TAGGER_KINDS:
        return tagged(mel, params, tagger)
    return _OF_MEL[params.kind](mel)


def spectral33(power: tf.Tensor, params: FrontEndParams) -> tf.Tensor:
    """Return MFCC 0:13, spectral centroid 13, chroma 14:26 and spectral contrast 26:33 of a power spectrogram.

    Parameters
    ----------
    power : tf.Tensor [shape=(1 + fft // 2, frames), float32]
    params : FrontEndParams

    Returns
    -------
    tf.Tensor [shape=(33, frames), float32]
    """
    return tf.concat(
        [mfcc13(mel_power(power, params)), centroid1(power, params), chroma12(power, params), contrast7(power, params)],
        axis=0,
    )


_OF_MEL: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "mfcc13": mfcc13,
    "log_mel128": log_mel128,
    "log_mel128_levels": log_mel128_levels,
    "musicnn_mel96": musicnn_mel96,
}
_OF_MUSICNN_MEL = ("musicnn_mel96", *TAGGER_KINDS)
_FRAMES_APART = ("mfcc13", "log_mel128")
"""Kinds with a frame of each spectrum, to which silence behind the clip makes no difference."""
