"""Decoding in TensorFlow operations, for graphs that take the bytes of a file and run where no Python is.

16-bit PCM in a WAV or in a Sun `.au` file, which needs no decoder beyond reading numbers. All other formats are for
`keras_genre.audio`. As there, the result is all of the audio or an error that says why not.
"""

import tensorflow as tf

from keras_genre import resample_graph

_UNKNOWN_SIZE = 0xFFFFFFFF
_AU_HEADER_BYTES = 24
_AU_PCM_16 = 3
_WAV_PCM, _WAV_EXTENSIBLE = 1, 0xFFFE
# Behind its first two bytes, which are a format tag, the GUID of a coding that has such a tag.
_GUID_TAIL = b"\x00\x00\x00\x00\x10\x00\x80\x00\x00\xaa\x00\x38\x9b\x71"
_MOST_CHUNKS = 10_000
_MOST_CHANNELS = 256
# Headers may be read so far beyond the end of a file; what is read there is refused afterwards.
_MARGIN_BYTES = 64


def decode_pcm16(content: tf.Tensor, sample_rate_hz: int) -> tf.Tensor:
    """Decode the bytes of a 16-bit PCM WAV or Sun `.au` file, average its channels and resample it.

    Parameters
    ----------
    content : tf.Tensor [shape=(), string]
        What is in the file. WAV: RIFF with any chunks around the audio, format 1 or WAVE_FORMAT_EXTENSIBLE.
        AU: big-endian, encoding 3. A size of the audio of all ones, as writers to a pipe leave it, means all
        that follows.
    sample_rate_hz : int > 0
        Rate of the waveform. That of the file must be the same or one of `resample_graph.COMMON_RATES_HZ`.

    Returns
    -------
    tf.Tensor [shape=(samples,), float32]
        Mono, in [-1, 1]. What `keras_genre.audio.load` gives; from another rate see `keras_genre.resample_graph`.

    Raises
    ------
    ParameterError
        If `sample_rate_hz` is not positive.
    tf.errors.InvalidArgumentError
        When run, for bytes that are something else, damaged, cut short or without samples.
    """
    content = tf.reshape(content, [])
    octets = tf.pad(tf.io.decode_raw(content, tf.uint8), [[0, _MARGIN_BYTES]])
    is_au, is_wav = _has(octets, 0, b".snd"), _has(octets, 0, b"RIFF") & _has(octets, 8, b"WAVE")
    octets = _checked(octets, is_au | is_wav, "the bytes are neither a WAV nor an .au file")
    start, size, source_rate_hz, channels = tf.cond(is_au, lambda: _au_header(octets), lambda: _wav_header(octets))
    frames = size // (2 * channels)
    frames = _checked(frames, frames > 0, "the file is well formed, but holds no samples")
    samples = tf.strings.substr(content, start, 2 * channels * frames)
    values = tf.cond(
        is_au,
        lambda: tf.io.decode_raw(samples, tf.int16, little_endian=False),
        lambda: tf.io.decode_raw(samples, tf.int16, little_endian=True),
    )
    waveform = tf.cast(tf.reshape(values, tf.stack([frames, channels])), tf.float32) / 32768.0
    return resample_graph.resample(tf.reduce_mean(waveform, axis=1), source_rate_hz, sample_rate_hz)


def _au_header(octets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return where the audio begins, its size in bytes, the sample rate and the number of channels [int64]."""
    length = tf.size(octets, tf.int64) - _MARGIN_BYTES
    fields = [_number(octets, offset, 4, big_endian=True) for offset in range(4, _AU_HEADER_BYTES, 4)]
    start, announced, encoding, rate, channels = fields
    start = _checked(
        start, (start >= _AU_HEADER_BYTES) & (start <= length), "the .au file ends inside its header, or it is damaged"
    )
    start = _checked(start, encoding == _AU_PCM_16, "the .au file is not 16-bit PCM; its encoding is", encoding)
    return start, _size(announced, length - start), rate, _sane(channels)


def _wav_header(octets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return where the audio begins, its size in bytes, the sample rate and the number of channels [int64]."""
    length = tf.size(octets, tf.int64) - _MARGIN_BYTES

    def is_before_audio(chunk: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return (chunk + 8 <= length) & ~_has(octets, chunk, b"data")

    def next_chunk(chunk: tf.Tensor, format_chunk: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        size = _number(octets, chunk + 4, 4)
        # Chunks begin at even places.
        return chunk + 8 + size + size % 2, tf.where(_has(octets, chunk, b"fmt "), chunk, format_chunk)

    first = tf.constant(12, tf.int64)
    none = tf.constant(0, tf.int64)
    audio, layout = tf.while_loop(
        is_before_audio, next_chunk, (first, none), maximum_iterations=_MOST_CHUNKS, parallel_iterations=1
    )
    is_found = (audio + 8 <= length) & _has(octets, audio, b"data")
    audio = _checked(audio, is_found, "the WAV file ends before its audio begins")
    audio = _checked(audio, layout > 0, "the WAV file does not say how its audio is coded: it has no fmt chunk")
    tag, channels, bits = (_number(octets, layout + offset, 2) for offset in (8, 10, 22))
    is_extended_pcm = (
        (tag == _WAV_EXTENSIBLE)
        & (_number(octets, layout + 4, 4) >= 40)
        & (_number(octets, layout + 32, 2) == _WAV_PCM)
        & _has(octets, layout + 34, _GUID_TAIL)
    )
    is_long_enough = _number(octets, layout + 4, 4) >= 16
    is_pcm = ((tag == _WAV_PCM) | is_extended_pcm) & (bits == 16) & is_long_enough
    audio = _checked(audio, is_pcm, "the WAV file is not 16-bit PCM; its format and bits are", tag, bits)
    channels = _sane(channels)
    channels = _checked(
        channels, _number(octets, layout + 20, 2) == 2 * channels, "the fmt chunk of the WAV file contradicts itself"
    )
    announced = _number(octets, audio + 4, 4)
    size = _size(announced, length - audio - 8)
    return audio + 8, size, _number(octets, layout + 12, 4), channels


def _size(announced: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Return the bytes of audio, all that are there where the header leaves it open."""
    is_open = announced == _UNKNOWN_SIZE
    return _checked(
        tf.where(is_open, present, announced),
        is_open | (announced <= present),
        "the file was cut short; bytes of audio that it has and that its header announces:",
        present,
        announced,
    )


def _sane(channels: tf.Tensor) -> tf.Tensor:
    is_sane = (channels >= 1) & (channels <= _MOST_CHANNELS)
    return _checked(channels, is_sane, "the header gives a number of channels that cannot be:", channels)


def _number(octets: tf.Tensor, offset: int | tf.Tensor, size: int, big_endian: bool = False) -> tf.Tensor:
    """Read an unsigned number [shape=(), int64]."""
    places = tf.range(size - 1, -1, -1) if big_endian else tf.range(size)
    digits = tf.cast(octets[offset : offset + size], tf.int64)
    return tf.reduce_sum(tf.bitwise.left_shift(digits, tf.cast(8 * places, tf.int64)))


def _has(octets: tf.Tensor, offset: int | tf.Tensor, expected: bytes) -> tf.Tensor:
    """Tell whether these bytes stand there."""
    found = octets[offset : offset + len(expected)]
    return tf.reduce_all(found == tf.constant(list(expected), tf.uint8))


def _checked(value: tf.Tensor, condition: tf.Tensor, *complaint: str | tf.Tensor) -> tf.Tensor:
    """Return the value, or fail where the condition does not hold before anything is done with it."""
    assertion = tf.debugging.Assert(condition, list(complaint))
    with tf.control_dependencies([] if assertion is None else [assertion]):
        return tf.identity(value)
