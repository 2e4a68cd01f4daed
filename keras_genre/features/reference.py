"""The feature kinds as librosa 0.11 defines them, from one short-time Fourier transform.

Each function returns, number for number, what the librosa calls named in its docstring return when they are
made apart; sharing the transform only saves time. The kinds that a network computes are the network's in NumPy.
"""

import warnings

import librosa
import numpy as np

from keras_genre.features import filters
from keras_genre.features.tagger import tags_and_penultimate
from keras_genre.params import FEATURE_COLUMNS, QUIETEST_RMS, FrontEndParams, levels_frames_of

MFCC_COEFFICIENTS = 13
MEL_BANDS = 128


def waveform_to_frames(waveform: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Turn a waveform into feature frames of the kind that `params` names.

    Parameters
    ----------
    waveform : np.ndarray [shape=(samples,), float32]
        Mono, in [-1, 1], at `params.sample_rate_hz`; any length.
    params : FrontEndParams
        Kind, sample rate, FFT length, hop.

    Returns
    -------
    np.ndarray [shape=(params.frames_of(samples), dims), float32]
        Of most kinds 1 + samples // hop; frame `i` is centred on second `i * hop / sample rate`; beyond the ends of the
        waveform there are zeros. Of the kinds that a network computes from many of those, frame `i` begins on second
        `i * params.hop_seconds`.
    """
    extractors = {
        "spectral33": spectral33,
        "mfcc13": mfcc13,
        "log_mel128": log_mel128,
        "log_mel128_levels": log_mel128_levels,
        "musicnn_mel96": musicnn_mel96,
        "taggram50": taggram50,
        "musicnn250": musicnn250,
    }
    with warnings.catch_warnings():
        # Silence has no pitch to tune to; `audio` has warned of silence by its own name already.
        warnings.filterwarnings("ignore", "Trying to estimate tuning from empty frequency set")
        features = extractors[params.kind](magnitudes(levelled(waveform, params), params), params)
    # One column a frame in librosa, one row a frame here.
    return np.ascontiguousarray(features.T, dtype=np.float32)


def levelled(waveform: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Bring a waveform to the root mean square that `params` asks for."""
    if params.rms_dbfs is None or not waveform.size:
        return waveform
    rms = np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))
    return waveform * np.float32(10 ** (params.rms_dbfs / 20) / max(rms, QUIETEST_RMS))


def magnitudes(waveform: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Return the magnitude spectrogram that all kinds start from.

    Returns
    -------
    np.ndarray [shape=(1 + fft / 2, frames), float32]
        `abs(librosa.stft(...))` with librosa's Hann window, frames centred, the ends padded with zeros.
    """
    # A clip shorter than one FFT has frames like any other, mostly of padding; librosa would warn of it.
    padded = np.pad(waveform, (0, max(0, params.fft_samples - waveform.size)))
    transform = librosa.stft(padded, n_fft=params.fft_samples, hop_length=params.hop_samples)
    return np.abs(transform[:, : params.spectra_of(waveform.size)])


def spectral33(magnitude: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Stack `mfcc` 0:13, `spectral_centroid` 13, `chroma_stft` 14:26 and `spectral_contrast` 26:33.

    The tuning estimate of `chroma_stft` is made from the same power spectrogram, as librosa makes it.
    """
    rate, n_fft, hop = params.sample_rate_hz, params.fft_samples, params.hop_samples
    feature = librosa.feature
    return np.concatenate(
        [
            mfcc13(magnitude, params),
            feature.spectral_centroid(S=magnitude, sr=rate, n_fft=n_fft, hop_length=hop),
            feature.chroma_stft(S=magnitude**2, sr=rate, n_fft=n_fft, hop_length=hop),
            feature.spectral_contrast(S=magnitude, sr=rate, n_fft=n_fft, hop_length=hop),
        ]
    )


def mfcc13(magnitude: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Return `librosa.feature.mfcc(n_mfcc=13)`: the first 13 cosine coefficients of the mel spectrum in dB."""
    decibels = librosa.power_to_db(_mel_power(magnitude, params))
    return librosa.feature.mfcc(S=decibels, sr=params.sample_rate_hz, n_mfcc=MFCC_COEFFICIENTS)


def log_mel128(magnitude: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Return `power_to_db(melspectrogram, ref=max, top_db=80)`: dB below the loudest bin, in [-80, 0]."""
    return librosa.power_to_db(_mel_power(magnitude, params), ref=np.max, top_db=80.0)


def log_mel128_levels(magnitude: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Return `log_mel128` from 0 at the clip's lowest value to 255 at its highest, at 12.9 frames a second.

    Frame `j` of `n` is that of spectrum `floor((j + 1/2) / (n + 1/2) * spectra)`. A clip all of one value is 0.
    """
    decibels = log_mel128(magnitude, params)
    low, high = decibels.min(), decibels.max()
    spectra = decibels.shape[1]
    frames = levels_frames_of(spectra)
    chosen = (2 * np.arange(frames) + 1) * spectra // (2 * frames + 1)
    return (decibels[:, chosen] - low) * (255.0 / max(high - low, 1e-6))


def musicnn_mel96(magnitude: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Return `log10(10000 * melspectrogram(n_mels=96) + 1)`: what MSD-musicnn was trained on (Pons and Serra, 2019).

    The spectrum is damped near 7.5 kHz, as the resampler of that training damped it: `filters.musicnn_damping`.
    """
    damped = magnitude * filters.musicnn_damping(params)[:, np.newaxis]
    return np.log10(10000.0 * _mel_power(damped, params, filters.MUSICNN_BANDS) + 1.0)


def taggram50(magnitude: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Return the activations of the 50 tags of MSD-musicnn, in [0, 1]; a frame is 187 spectra, 61 behind the last."""
    return musicnn250(magnitude, params)[: FEATURE_COLUMNS["musicnn250", "taggram50"]]


def musicnn250(magnitude: np.ndarray, params: FrontEndParams) -> np.ndarray:
    """Stack `taggram50` 0:50 and the 200 values of the network's last hidden layer 50:250."""
    return tags_and_penultimate(musicnn_mel96(magnitude, params).T, params.hop_spectra).T


def _mel_power(magnitude: np.ndarray, params: FrontEndParams, bands: int = MEL_BANDS) -> np.ndarray:
    return librosa.feature.melspectrogram(S=magnitude**2, sr=params.sample_rate_hz, n_mels=bands)
