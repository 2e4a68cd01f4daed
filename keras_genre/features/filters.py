"""The constants of the feature kinds: windows, filter banks and bands, as librosa 0.11 defines them.

In NumPy and nothing else, because a worker process or a graph that needs a table of numbers should not have to
load librosa; the tests hold every table against librosa's.
"""

import itertools

import numpy as np

from keras_genre.errors import ParameterError
from keras_genre.params import FrontEndParams

CHROMA_BINS = 12
CONTRAST_BANDS = 7

MUSICNN_BANDS = 96

# From 7187.5 Hz on, in steps of 31.25 Hz; `tests/test_musicnn.py` measures them anew.
_MUSICNN_DAMPED_BIN = 230
_MUSICNN_DAMPING = (
    *(0.9990, 0.9950, 0.9881, 0.9770, 0.9603, 0.9365, 0.9044, 0.8639, 0.8159, 0.7635),
    *(0.7106, 0.6620, 0.6218, 0.5936, 0.5806, 0.5863, 0.6158, 0.6781, 0.7896, 0.9828),
)

_CONTRAST_LOWEST_HZ = 200.0
_CONTRAST_QUANTILE = 0.02
_MEL_LINEAR_HZ = 200.0 / 3
_MEL_LOG_FROM_HZ = 1000.0
_MEL_LOG_STEP = np.log(6.4) / 27


def hann_window(samples: int) -> np.ndarray:
    """Return the periodic Hann window [shape=(samples,), float64] of librosa's transform."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(samples) / samples)


def bin_frequencies(params: FrontEndParams) -> np.ndarray:
    """Return the frequency in Hz of each bin of the transform [shape=(1 + fft // 2,), float64]."""
    return np.arange(1 + params.fft_samples // 2) * (params.sample_rate_hz / params.fft_samples)


def mel_filters(params: FrontEndParams, bands: int) -> np.ndarray:
    """Return `librosa.filters.mel` [shape=(1 + fft // 2, bands), float32], one column a band.

    Triangles of equal area on Slaney's mel scale (Auditory Toolbox, 1998), from 0 Hz to half the sample rate.
    """
    frequencies = bin_frequencies(params)
    highest = _hz_to_mel(np.array(params.sample_rate_hz / 2))
    corners = _mel_to_hz(np.linspace(0.0, float(highest), bands + 2))
    widths = np.diff(corners)
    rising = (frequencies[:, None] - corners[:-2]) / widths[:-1]
    falling = (corners[2:] - frequencies[:, None]) / widths[1:]
    triangles = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return (triangles * (2.0 / (corners[2:] - corners[:-2]))).astype(np.float32)


def musicnn_damping(params: FrontEndParams) -> np.ndarray:
    """Return what the magnitude in each bin is multiplied by for MSD-musicnn [shape=(1 + fft // 2,), float32].

    The network was trained on music that librosa had brought to 16 kHz, then with resampy's filter `kaiser_best` of
    before its release 0.3, which begins to fade a little lower than that of soxr. These are the ratios of the two, as
    measured from 22 050 Hz. Without them the tag activations of real music differ by 0.003 on average from published
    ones, with them by 0.00003. They are of the one transform of this kind.
    """
    damping = np.ones(1 + params.fft_samples // 2, np.float32)
    damping[_MUSICNN_DAMPED_BIN : _MUSICNN_DAMPED_BIN + len(_MUSICNN_DAMPING)] = _MUSICNN_DAMPING
    return damping


def cosine_transform(inputs: int, outputs: int) -> np.ndarray:
    """Return the first columns of the orthonormal DCT-II as a matrix [shape=(inputs, outputs), float32]."""
    angles = np.pi / inputs * (np.arange(inputs)[:, None] + 0.5) * np.arange(outputs)
    matrix = np.sqrt(2.0 / inputs) * np.cos(angles)
    matrix[:, 0] /= np.sqrt(2.0)
    return matrix.astype(np.float32)


def bin_semitones(params: FrontEndParams) -> tuple[np.ndarray, np.ndarray]:
    """Return where the bins of the transform lie on the scale of twelve semitones an octave, tuned to 440 Hz.

    Returns
    -------
    semitones : np.ndarray [shape=(1 + fft // 2,), float64]
        Above the A of 27.5 Hz. The bin of 0 Hz, which has no pitch, is put one and a half octaves below the next.
    widths : np.ndarray [shape=(1 + fft // 2,), float64]
        Distance to the next bin, at least one semitone.
    """
    bins = 1 + params.fft_samples // 2
    # One bin more than needed gives the last one its width.
    frequencies = np.arange(1, bins + 1) * (params.sample_rate_hz / params.fft_samples)
    semitones = CHROMA_BINS * np.log2(frequencies / 27.5)
    semitones = np.concatenate([[semitones[0] - 1.5 * CHROMA_BINS], semitones])
    return semitones[:bins], np.maximum(np.diff(semitones), 1.0)


def contrast_bands(params: FrontEndParams) -> list[tuple[int, int, int]]:
    """Return the bands of `librosa.feature.spectral_contrast`: octaves from 200 Hz, and what is below.

    Returns
    -------
    list of (first bin, bin after the last, how many of the strongest and of the weakest bins are averaged)

    Raises
    ------
    ParameterError
        If the sample rate is too low for seven bands or the transform too short to have bins in each.
    """
    frequencies = bin_frequencies(params)
    edges = np.concatenate([[0.0], _CONTRAST_LOWEST_HZ * 2.0 ** np.arange(CONTRAST_BANDS)])
    if edges[-2] >= params.sample_rate_hz / 2:
        raise ParameterError(f"spectral33 needs a sample rate above {2 * edges[-2]:g} Hz, not {params.sample_rate_hz}")
    bands = []
    for band, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = np.flatnonzero((frequencies >= low) & (frequencies <= high))
        if not inside.size:
            raise ParameterError(f"spectral33 needs a longer FFT than {params.fft_samples} samples")
        # librosa's bands overlap by a bin, and all but the last are then cut by one.
        first = inside[0] - (band > 0)
        last = frequencies.size if band == CONTRAST_BANDS - 1 else inside[-1] + 1
        averaged = max(int(np.rint(_CONTRAST_QUANTILE * (last - first))), 1)
        end = last if band == CONTRAST_BANDS - 1 else last - 1
        if end - first < averaged:
            raise ParameterError(f"spectral33 needs a longer FFT than {params.fft_samples} samples")
        bands.append((int(first), int(end), averaged))
    return bands


def _hz_to_mel(frequencies: np.ndarray) -> np.ndarray:
    above = np.log(np.maximum(frequencies, _MEL_LOG_FROM_HZ) / _MEL_LOG_FROM_HZ) / _MEL_LOG_STEP
    return np.minimum(frequencies, _MEL_LOG_FROM_HZ) / _MEL_LINEAR_HZ + above


def _mel_to_hz(mels: np.ndarray) -> np.ndarray:
    log_from = _MEL_LOG_FROM_HZ / _MEL_LINEAR_HZ
    return np.minimum(mels, log_from) * _MEL_LINEAR_HZ * np.exp(_MEL_LOG_STEP * np.maximum(mels - log_from, 0.0))
