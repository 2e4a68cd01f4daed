"""What tests share: real music where there is some, and small made-up waveforms."""

import functools
import io
import shutil
import signal
import subprocess
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

# A shell that starts the tests in the background makes them ignore SIGINT, and with them every command that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real music; tests that need it are skipped where it is absent."""
    if not (SHARED_DATA / "gtzan_mini").is_dir():
        pytest.skip("needs the music in ../shared/data, which is not part of the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tone() -> Callable[..., np.ndarray]:
    """A function that makes a tone of its own pitch for every channel, in noise: [(samples, channels), float32]."""

    @functools.cache
    def make(seconds: float = 1.0, sample_rate_hz: int = 22050, channels: int = 1, seed: int = 0) -> np.ndarray:
        time = np.arange(round(seconds * sample_rate_hz)) / sample_rate_hz
        noise = 0.05 * np.random.default_rng(seed).standard_normal((time.size, channels))
        pitches_hz = 300.0 + 110.0 * np.arange(channels)
        waveform = (0.4 * np.sin(2 * np.pi * time[:, None] * pitches_hz) + noise).astype(np.float32)
        # Every caller gets the same array.
        waveform.flags.writeable = False
        return waveform

    return make


@pytest.fixture(scope="session")
def encode(tone) -> Callable[..., bytes]:
    """A function that gives a tone, or the given samples, as the bytes of an audio file."""

    def make(
        file_format: str,
        subtype: str | None = None,
        sample_rate_hz: int = 44100,
        channels: int = 2,
        seconds: float = 1.0,
        samples: np.ndarray | None = None,
    ) -> bytes:
        if samples is None:
            samples = tone(seconds, sample_rate_hz, channels)
        file = io.BytesIO()
        soundfile.write(file, samples, sample_rate_hz, format=file_format, subtype=subtype)
        return file.getvalue()

    return make


@pytest.fixture(scope="session")
def toy_store(tmp_path_factory):
    """A small made-up store; tests only read it."""
    from toys import make_toy_store

    return make_toy_store(tmp_path_factory.mktemp("stores") / "toy")


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """A run of windows of just a second, its export and what the verification found; tests only read them."""
    from toys import make_untrained_run, toy_params

    from keras_genre.exporting import export_saved_model
    from keras_genre.verification import Checks

    folder = tmp_path_factory.mktemp("exported")
    run = make_untrained_run(folder / "run", toy_params(window_frames=43))
    music = {}
    if (SHARED_DATA / "gtzan_mini").is_dir():
        from keras_genre import audio

        music = {"a clip of disco": audio.load(SHARED_DATA / "gtzan_mini" / "disco.00000.flac", 22050)}
    out = folder / "saved_models" / "toy" / "1"
    found = export_saved_model(run, out, checks=Checks(music=music))
    return types.SimpleNamespace(run=run, version=out, name=out.parent, verification=found, music=music)


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a disk of a few megabytes."""
    mounted = []

    def mount(megabytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no disk can be mounted here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
