"""Whether an exported model says what its run says, asked in a clean process that has TensorFlow and nothing else."""

import dataclasses
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
import soundfile
import soxr
import tensorflow as tf

from keras_genre.errors import ExportError
from keras_genre.features.layers import FrontEnd
from keras_genre.metrics import softmax
from keras_genre.models.musicnn_weights import PENULTIMATE, TAGS
from keras_genre.params import FEATURE_COLUMNS, FrontEndParams, resampled_samples, with_embeddings
from keras_genre.pipeline import window_starts
from keras_genre.resample_graph import resample_batch
from keras_genre.saved_models import (
    ASSETS,
    EMBEDDINGS,
    ENCODED,
    FEATURES,
    INPUTS,
    LABELS,
    OUTPUTS,
    PROBABILITIES,
    WAVEFORM,
    WINDOW_PROBABILITIES,
    MemberParams,
    SavedModelParams,
    read_saved_model,
)
from keras_genre.scoring import ClipScorer

PROBE = Path(__file__).with_name("saved_model_probe.py")
"""The program that answers, for `CleanProcess`."""

CPU = "CPU:0"
"""The device of the answers that an export is held against, as of those that the clean process gives."""

TOLERANCE = 1e-5
"""How far a probability may be from what the run's network gives for the same waveform."""

BFLOAT16_TOLERANCE = 2e-2
"""The same for networks that compute in bfloat16, of which one unit in the last place is 0.4 % of a value."""

REFERENCE_TOLERANCE = 1e-3
"""How far a probability may be from what the run's network gives for librosa's frames of the same music."""


@dataclasses.dataclass(frozen=True)
class Checks:
    """How much is asked.

    Attributes
    ----------
    seconds : tuple of float > 0
        Lengths of the clips; shorter ones than a window are made as long as one.
    batch_size : int > 0
        Each length is asked clip by clip, and so many at a time.
    music : mapping of str to np.ndarray
        Waveforms float32 (samples,) of at least a window, to ask besides those that are made up here.
    against_librosa : bool
        Whether music is also held against the frames that librosa gives, those of the training.
    """

    seconds: tuple[float, ...] = (1.0, 30.0, 240.0)
    batch_size: int = 8
    music: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    against_librosa: bool = True


QUICK = Checks(seconds=(1.0, 30.0), batch_size=2, against_librosa=False)
"""For the end of a training, which shall not wait."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """What was found.

    Attributes
    ----------
    requests : int
    difference : float
        The largest one between a probability and that of the run's network.
    reference_difference : float
        The same with librosa's frames instead of the graph's; 0 where the model takes frames only.
    peak_bytes : int
        Memory that the process which answered took at most.
    seconds : float
        Duration of the verification.
    """

    requests: int
    difference: float
    reference_difference: float
    peak_bytes: int
    seconds: float

    def sentence(self) -> str:
        """Return the finding as a line for people."""
        reference = f", {self.reference_difference:.1e} to librosa's frames" if self.reference_difference else ""
        return (
            f"{self.requests} requests answered in a process without this package; largest difference to the run "
            f"{self.difference:.1e}{reference} ({self.seconds:.0f} s, {self.peak_bytes / 2**20:.0f} MiB)"
        )


Outputs = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Request:
    """A question whose answer is known.

    Attributes
    ----------
    signature : str
    clips : tuple of str
        Names of the inputs, one a row.
    expected : dict or None
        Outputs; None if the request must be refused.
    refusal : str
        What the error must say.
    """

    signature: str
    clips: tuple[str, ...]
    expected: Outputs | None
    refusal: str = ""


_START = """
import json, runpy, sys
sys.path[:] = json.loads(sys.argv.pop(1))
runpy.run_path(sys.argv[1], run_name="__main__")
"""


def import_folders() -> list[str]:
    """Return where this process imports from, but for the current folder, which `python -m` looks into first."""
    here = os.path.realpath(os.curdir)
    return [folder for folder in sys.path if os.path.isabs(folder) and os.path.realpath(folder) != here]


class CleanProcess:
    """A program that uses an exported model, apart from this package, the current folder and any GPU.

    It imports from where this process does, be it PYTHONPATH or the packages of the user.

    It begins to load its libraries when this object is made; what it shall do it is told by `run`, once.

    Parameters
    ----------
    program : Path
        Reads its arguments, a JSON list, from standard input.
    """

    def __init__(self, program: Path):
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", _START, json.dumps(import_folders()), str(program)],
            cwd=tempfile.gettempdir(),
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "CleanProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, *arguments: Path) -> None:
        """Have the program do its work.

        Raises
        ------
        ExportError
            If it fails.
        """
        _, messages = self._process.communicate(json.dumps([str(argument) for argument in arguments]))
        if self._process.returncode:
            last = messages.strip().splitlines()[-1:] or ["no message"]
            raise ExportError(
                f"a clean process cannot use what was written (exit status {self._process.returncode}): {last[0]}"
            )


def verify(
    folder: Path, models: Sequence[keras.Model], params: SavedModelParams, checks: Checks, process: CleanProcess
) -> Verification:
    """Hold a SavedModel against the networks that it was made of.

    Parameters
    ----------
    folder : Path
        The SavedModel.
    models : sequence of keras.Model
        The runs' networks, one for every member of `params`, which a CPU can run.
    params : SavedModelParams
        What the SavedModel must say of itself.
    checks : Checks
    process : CleanProcess
        Of `PROBE`.

    Raises
    ------
    ExportError
        With the first thing that is not as it must be.
    """
    started = time.monotonic()
    if read_saved_model(folder) != params:
        raise ExportError(f"{folder}: the parameters among the assets are not those of the run")
    labels = (folder / ASSETS / LABELS).read_text(encoding="utf-8").splitlines()
    if labels != list(params.genres):
        raise ExportError(f"{folder}: the labels among the assets are not the genres of the run")
    inputs, requests, reference = expectations(models, params, checks)
    answers, facts = _answers(process, folder, inputs, requests)
    _check_facts(params, facts)
    is_rounded = any(member.network.mixed_bfloat16 for member in params.members)
    tolerance = BFLOAT16_TOLERANCE if is_rounded else TOLERANCE
    difference, reference_difference = 0.0, 0.0
    for number, request in enumerate(requests):
        error = facts["errors"].get(str(number), "")
        difference = max(difference, _check_answer(request, answers[number], error, tolerance))
        for position, name in enumerate(request.clips):
            if name in reference and request.signature == WAVEFORM:
                far = float(np.abs(answers[number][PROBABILITIES][position] - reference[name]).max())
                reference_difference = max(reference_difference, far)
    if reference_difference > max(REFERENCE_TOLERANCE, tolerance):
        raise ExportError(
            f"the probabilities are up to {reference_difference:.2g} from those of the frames that the network was "
            f"trained on; at most {REFERENCE_TOLERANCE} was expected"
        )
    return Verification(
        len(requests), difference, reference_difference, facts["peak_bytes"], time.monotonic() - started
    )


def expectations(
    models: Sequence[keras.Model], params: SavedModelParams, checks: Checks
) -> tuple[dict[str, np.ndarray], list[Request], Outputs]:
    """Return what to ask of a SavedModel, computed by a CPU alone.

    Returns
    -------
    inputs : dict
        By name.
    requests : list of Request
    reference : dict
        Probabilities that librosa's frames of some inputs give, by the inputs' names.
    """
    with tf.device(CPU):
        if params.front_end:
            return _audio_requests(models, params, checks)
        return _frame_requests(models[0], params, checks)


def made_up_clips(samples: int, sample_rate_hz: int) -> dict[str, np.ndarray]:
    """Return waveforms float32 (samples,) of extreme and of usual kinds: silence, noise, a sine, music."""
    time_s = np.arange(samples) / sample_rate_hz
    generator = np.random.default_rng(samples)
    beat_s = 0.5
    since_beat = time_s % beat_s
    # Four chords of three plucked notes with six partials each, a hiss on every beat.
    chords_hz = np.array([[220.0, 277.2, 329.6], [196.0, 246.9, 293.7], [174.6, 220.0, 261.6], [164.8, 207.7, 246.9]])
    notes_hz = chords_hz[(time_s / (4 * beat_s)).astype(int) % 4]
    music = np.zeros(samples)
    for partial in range(1, 7):
        music += (np.sin(2 * np.pi * partial * notes_hz * time_s[:, np.newaxis]) / partial**1.5).sum(axis=1)
    music *= np.exp(-3 * since_beat)
    music += generator.standard_normal(samples) * np.exp(-40 * since_beat)
    return {
        "silence": np.zeros(samples, np.float32),
        "noise": (0.1 * generator.standard_normal(samples)).astype(np.float32),
        "sine": (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32),
        "music": (0.8 * music / np.abs(music).max()).astype(np.float32),
    }


def clip_outputs(scorer: ClipScorer, frames: np.ndarray, divisor: float = 1.0) -> Outputs:
    """Return what the arithmetic of `keras_genre.prediction` gives for the frames (frames, dims) of one clip."""
    logits, _ = _window_logits([scorer], frames)
    return _outputs(logits.mean(axis=0), logits, divisor)


def _outputs(clip: np.ndarray, windows: np.ndarray, divisor: float) -> Outputs:
    return {PROBABILITIES: softmax(clip / divisor), WINDOW_PROBABILITIES: softmax(windows / divisor)}


def _window_logits(scorers: Sequence[ClipScorer], frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the sum of the logits (windows, genres) of a clip's windows, and the windows' first frames."""
    length = scorers[0].window_frames
    starts = window_starts(len(frames), length)
    windows = np.stack([frames[start : start + length] for start in starts])
    return np.sum([scorer.windows(windows).astype(np.float64) for scorer in scorers], axis=0), np.array(starts)


class _Runs:
    """What the runs say of waveforms at the model's rate.

    Parameters
    ----------
    models : sequence of keras.Model
    params : SavedModelParams
    """

    def __init__(self, models: Sequence[keras.Model], params: SavedModelParams):
        self._params = params
        self._members = [params.members[places[0]] for places in params.groups]
        self._scorers = [[ClipScorer(models[place]) for place in places] for places in params.groups]
        self._computed = [self._frame_function(member) for member in self._members]

    def _frame_function(self, member: MemberParams) -> Callable[[np.ndarray], tf.Tensor]:
        given_hz = self._params.sample_rate_hz
        assert member.front_end is not None and given_hz is not None
        front_end, taken_hz = FrontEnd(with_embeddings(member.front_end)), member.front_end.sample_rate_hz
        return tf.function(
            lambda waveform: front_end(resample_batch(waveform, given_hz, taken_hz)),
            [tf.TensorSpec((1, None), tf.float32)],
        )

    def columns(self, waveform: np.ndarray) -> np.ndarray:
        """Return all that the first front end computes."""
        return self._computed[0](waveform[np.newaxis]).numpy()[0]

    def frames(self, waveform: np.ndarray) -> np.ndarray:
        """Return the frames that the first networks get."""
        return self.columns(waveform)[:, : self._params.dims]

    def of_frames(self, frames: np.ndarray) -> Outputs:
        """Return what the first networks say of their frames."""
        windows, _ = _window_logits(self._scorers[0], frames)
        return _outputs(windows.mean(axis=0), windows, self._params.features_divisor)

    def outputs(self, waveform: np.ndarray) -> Outputs:
        """Return what all networks say, by the graph's frames."""
        return self._mean(
            [
                computed(waveform[np.newaxis]).numpy()[0, :, : member.dims]
                for computed, member in zip(self._computed, self._members, strict=True)
            ]
        )

    def librosa_outputs(self, waveform: np.ndarray) -> Outputs:
        """Return what all networks say, by librosa's frames and soxr's resampling."""
        frames = []
        for member in self._members:
            assert member.front_end is not None and self._params.sample_rate_hz is not None
            rates = self._params.sample_rate_hz, member.front_end.sample_rate_hz
            wanted = resampled_samples(waveform.size, *rates)
            own = soxr.resample(waveform, *rates, quality="HQ")[:wanted]
            frames.append(librosa_frames(np.pad(own, (0, wanted - own.size)), member.front_end))
        return self._mean(frames)

    def _mean(self, frames: Sequence[np.ndarray]) -> Outputs:
        answers = [_window_logits(scorers, each) for scorers, each in zip(self._scorers, frames, strict=True)]
        spans = [_spans(member, starts) for member, (_, starts) in zip(self._members, answers, strict=True)]
        windows, _ = answers[0]
        clip = sum(logits.mean(axis=0) for logits, _ in answers)
        for span, (logits, _) in zip(spans[1:], answers[1:], strict=True):
            windows = windows + _shares(spans[0], span) @ logits
        return _outputs(clip, windows, len(self._params.members) * self._params.temperature)


def _spans(member: MemberParams, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return from when to when windows are, in seconds."""
    assert member.front_end is not None
    begin = starts * member.front_end.hop_seconds
    return begin, begin + member.front_end.window_seconds(member.window_frames)


def _shares(spans: tuple[np.ndarray, np.ndarray], others: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return how much of every span each of the others covers, as shares of 1 a row; if none does, of the nearest."""
    overlaps = np.minimum.outer(spans[1], others[1]) - np.maximum.outer(spans[0], others[0])
    shares = np.maximum(overlaps, 0)
    alone = np.flatnonzero(shares.sum(axis=1) == 0)
    shares[alone, overlaps[alone].argmax(axis=1)] = 1
    return shares / shares.sum(axis=1, keepdims=True)


def _audio_requests(
    models: Sequence[keras.Model], params: SavedModelParams, checks: Checks
) -> tuple[dict[str, np.ndarray], list[Request], Outputs]:
    """Return inputs by name, requests, and the probabilities that librosa's frames of some inputs give."""
    assert params.sample_rate_hz is not None and params.minimum_samples is not None
    rate, minimum = params.sample_rate_hz, params.minimum_samples
    runs = _Runs(models, params)

    groups = [
        {
            f"{name}, {seconds:g} s": clip
            for name, clip in made_up_clips(max(minimum, round(seconds * rate)), rate).items()
        }
        for seconds in checks.seconds
    ]
    inputs: dict[str, np.ndarray] = {}
    expected: dict[str, Outputs] = {}
    requests: list[Request] = []
    for group in [*groups, *({name: clip} for name, clip in checks.music.items())]:
        inputs |= group
        for name, clip in group.items():
            expected[name] = runs.outputs(clip)
        requests += _singles_and_batch(WAVEFORM, list(group), expected, checks.batch_size)
    # Not of the rest: where there is no pitch or no loudness, librosa's own frames hang on the last bit.
    reference = {
        name: runs.librosa_outputs(clip)[PROBABILITIES]
        for name, clip in inputs.items()
        if checks.against_librosa and (name.startswith("music") or name in checks.music)
    }
    first = list(groups[0])
    as_frames = {f"frames of {name}": runs.frames(groups[0][name]) for name in first}
    expected |= {name: runs.of_frames(frames) for name, frames in as_frames.items()}
    requests += _singles_and_batch(FEATURES, list(as_frames), expected, checks.batch_size)
    music = groups[0][first[-1]]
    encoded, rounded = _encoded(music, rate)
    requests += [Request(ENCODED, (name,), _stacked([runs.outputs(rounded)])) for name in encoded]
    if EMBEDDINGS in params.signatures:
        embeddings = {name: _embeddings(runs.columns(clip)) for name, clip in groups[0].items()}
        requests += _singles_and_batch(EMBEDDINGS, first, embeddings, checks.batch_size)
    bad = {
        "one sample too few": music[: minimum - 1],
        "NaN": np.where(np.arange(music.size) == 100, np.float32(np.nan), music),
        "no audio": np.frombuffer(b"no audio at all", np.uint8),
    }
    requests += [
        Request(WAVEFORM, ("one sample too few",), None, str(minimum)),
        Request(WAVEFORM, ("NaN",), None, "not finite"),
        Request(ENCODED, ("no audio",), None),
    ]
    return inputs | as_frames | encoded | bad, requests, reference


def _embeddings(frames: np.ndarray) -> Outputs:
    tags = FEATURE_COLUMNS["musicnn250", "taggram50"]
    return {TAGS: frames[:, :tags], PENULTIMATE: frames[:, tags:]}


def _frame_requests(
    model: keras.Model, params: SavedModelParams, checks: Checks
) -> tuple[dict[str, np.ndarray], list[Request], Outputs]:
    """Return the same for a model that takes frames only."""
    scorer = ClipScorer(model)
    length, log_odds = scorer.window_frames, params.network.log_odds
    inputs: dict[str, np.ndarray] = {}
    requests: list[Request] = []
    for frames in (length, length + 1, 10 * length + length // 2):
        rows = plausible_frames(model, 4 * frames, log_odds=log_odds).reshape((4, frames, -1))
        group = {f"{frames} frames, {number}": row for number, row in enumerate(rows)}
        inputs |= group
        expected = {name: clip_outputs(scorer, clip, params.features_divisor) for name, clip in group.items()}
        requests += _singles_and_batch(FEATURES, list(group), expected, checks.batch_size)
    requests.append(Request(FEATURES, ("one frame too few",), None, str(length)))
    return inputs | {"one frame too few": plausible_frames(model, length - 1, log_odds=log_odds)}, requests, {}


def _singles_and_batch(
    signature: str, names: list[str], expected: Mapping[str, Outputs], batch_size: int
) -> list[Request]:
    batch = tuple(names[position % len(names)] for position in range(batch_size))
    return [
        Request(signature, row, _stacked([expected[name] for name in row])) for row in [(n,) for n in names] + [batch]
    ]


def _stacked(rows: list[Outputs]) -> Outputs:
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _encoded(waveform: np.ndarray, sample_rate_hz: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return a waveform as the bytes of 16-bit files, and as the samples that are in them."""
    integers = np.round(waveform * 32767).astype(np.int16)
    encoded = {}
    for kind in ("WAV", "AU"):
        file = io.BytesIO()
        soundfile.write(file, integers, sample_rate_hz, format=kind, subtype="PCM_16")
        encoded[f"{kind} file"] = np.frombuffer(file.getvalue(), np.uint8)
    return encoded, integers.astype(np.float32) / 32768


def _answers(
    process: CleanProcess, folder: Path, inputs: dict[str, np.ndarray], requests: list[Request]
) -> tuple[list[Outputs], dict]:
    """Return the outputs for each request, and what else the process that answered saw."""
    with tempfile.TemporaryDirectory() as scratch:
        asked, plan, answered, facts = (Path(scratch) / name for name in ("in.npz", "in.json", "out.npz", "out.json"))
        np.savez(asked, **inputs)
        plan.write_text(
            json.dumps(
                [
                    {"signature": request.signature, "input": INPUTS[request.signature], "clips": request.clips}
                    for request in requests
                ]
            )
        )
        process.run(folder.resolve(), asked, plan, answered, facts)
        with np.load(answered) as stored:
            outputs: list[Outputs] = [{} for _ in requests]
            for key in stored.files:
                number, name = key.split("/")
                outputs[int(number)][name] = stored[key]
        return outputs, json.loads(facts.read_text())


def librosa_frames(waveform: np.ndarray, front_end: FrontEndParams) -> np.ndarray:
    """Return the frames that a training sees of a waveform, as `features.reference` does."""
    # Here, because librosa takes a second to import.
    from keras_genre.features.reference import waveform_to_frames

    return waveform_to_frames(waveform, front_end)


def plausible_frames(model: keras.Model, frames: int, *, log_odds: bool) -> np.ndarray:
    """Return made-up frames float32 (frames, dims), distributed like those that a network was trained on.

    With `log_odds` the network is one that takes probabilities and standardises their log-odds.
    """
    mean, variance, _ = model.get_layer("standardisation").get_weights()
    noise = np.random.default_rng(frames).standard_normal((frames, len(mean)))
    standardised = mean + np.sqrt(variance) * noise
    return (1 / (1 + np.exp(-standardised)) if log_odds else standardised).astype(np.float32)


def _check_facts(params: SavedModelParams, facts: dict) -> None:
    wanted = {name: {"inputs": [INPUTS[name]], "outputs": sorted(OUTPUTS[name])} for name in params.signatures}
    if facts["signatures"] != wanted:
        raise ExportError(f"the signatures are {facts['signatures']}, not {wanted}")
    if facts["unknown_operations"]:
        raise ExportError(
            f"operations that a plain TensorFlow on a CPU cannot run: {', '.join(facts['unknown_operations'])}"
        )


def _check_answer(request: Request, answer: Outputs, error: str, tolerance: float) -> float:
    """Return the largest difference to what was expected.

    Raises
    ------
    ExportError
        If it is too large, or the answer is of another kind.
    """
    what = f"{request.signature} of {', '.join(request.clips)}"
    if request.expected is None:
        if not error.startswith("InvalidArgumentError") or request.refusal not in error:
            raise ExportError(f"{what}: should be refused, but gives {error or 'an answer'}")
        return 0.0
    if error:
        raise ExportError(f"{what}: fails ({error})")
    largest = 0.0
    for name, wanted in request.expected.items():
        found = answer.get(name)
        if found is None or found.shape != wanted.shape or found.dtype != np.float32:
            raise ExportError(f"{what}: {name} is not float32 {wanted.shape}")
        are_probabilities = name in (PROBABILITIES, WINDOW_PROBABILITIES)
        if not np.isfinite(found).all() or (are_probabilities and np.abs(found.sum(axis=-1) - 1).max() > TOLERANCE):
            raise ExportError(f"{what}: {name} are not {'probabilities' if are_probabilities else 'finite'}")
        largest = max(largest, float(np.abs(found - wanted).max()))
    if largest > tolerance:
        raise ExportError(f"{what}: a value is {largest:.2g} from the run's; at most {tolerance:g} is allowed")
    return largest
