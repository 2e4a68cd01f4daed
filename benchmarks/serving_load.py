"""Load on a real server: many clients at once, first honest ones, then with one request in five hostile.

`python -m benchmarks.serving_load --model saved_models/NAME` starts `keras_genre.serve` as a process on 127.0.0.1 and
writes throughput, latencies, errors and the server's memory over time to `benchmarks/results/`.
"""

import argparse
import asyncio
import base64
import collections
import contextlib
import dataclasses
import io
import json
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from keras_genre import cli, files

RESULTS = Path(__file__).parent / "results"
BODY_SECONDS = 5.0
ANSWER_SECONDS = 120.0
CLIP_SECONDS = 5.0
SAMPLE_SECONDS = 0.5
WARM_UP_SECONDS = 10.0
GIGABYTE = 1 << 30
HOSTILE_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Outcome:
    """One request: its kind, the status (0: none), its duration, and what is wrong with the answer, if anything."""

    kind: str
    is_hostile: bool
    status: int
    seconds: float
    fault: str = ""


@dataclasses.dataclass(frozen=True)
class Load:
    """What the clients of one process do.

    Attributes
    ----------
    port : int
    name : str
        The model's.
    sample_rate_hz, minimum_samples : int
        The model's.
    clients : int
    seconds : float
    hostile_share : float in [0, 1]
    seed : int
    """

    port: int
    name: str
    sample_rate_hz: int
    minimum_samples: int
    clients: int
    seconds: float
    hostile_share: float
    seed: int


class Client:
    """Sends requests, one after the other."""

    def __init__(self, load: Load):
        self._load = load
        samples = max(round(CLIP_SECONDS * load.sample_rate_hz), load.minimum_samples)
        waveform = np.random.default_rng(load.seed).uniform(-0.5, 0.5, samples)
        predict, audio = f"/v1/models/{load.name}:predict", "/v1/audio"
        numbers = json.dumps([round(float(value), 5) for value in waveform])
        wav = base64.b64encode(_encoded(waveform, load.sample_rate_hz, "WAV", "PCM_16")).decode()
        encoded = json.dumps({"signature_name": "encoded", "inputs": [{"b64": wav}]})
        # At 44.1 kHz and in stereo, as music mostly comes.
        times = np.arange(round(samples / load.sample_rate_hz * 44100)) * load.sample_rate_hz / 44100
        music = np.interp(times, np.arange(samples), waveform)
        flac = _encoded(np.stack([music, music[::-1]], axis=1), 44100, "FLAC", "PCM_16")
        ogg = _encoded(np.stack([music, music[::-1]], axis=1), 44100, "OGG", "VORBIS")
        self.honest: dict[str, Callable[[], Awaitable[tuple[int, bytes]]]] = {
            "waveform as JSON": lambda: self._post(predict, f'{{"instances": [{numbers}]}}'.encode()),
            "WAV in base64": lambda: self._post(predict, encoded.encode()),
            "FLAC upload": lambda: self._post(audio, flac),
            "Ogg upload": lambda: self._post(audio, ogg),
        }
        self.hostile: dict[str, Callable[[], Awaitable[tuple[int, bytes]]]] = {
            "bad JSON": lambda: self._post(predict, b'{"instances": [[0.1, 0.2'),
            "NaN": lambda: self._post(predict, f'{{"instances": [[NaN, {numbers[1:]}]}}'.encode()),
            "wrong rank": lambda: self._post(predict, f'{{"instances": {numbers}}}'.encode()),
            "1 GB announced": lambda: self._post(audio, b"RIFF", announced=GIGABYTE),
            "1 GB streamed": lambda: self._stream(audio),
            "slow body": lambda: self._slow(predict),
            "garbage audio": lambda: self._post(audio, np.random.default_rng(0).bytes(200_000)),
            "cut connection": lambda: self._cut(audio),
        }

    async def work(self, number: int, end: float) -> list[Outcome]:
        """Send requests until the time `end`."""
        generator = np.random.default_rng([self._load.seed, number])
        outcomes = []
        while time.monotonic() < end:
            is_hostile = bool(generator.random() < self._load.hostile_share)
            requests = self.hostile if is_hostile else self.honest
            kind = str(generator.choice(list(requests)))
            begin = time.monotonic()
            try:
                status, body = await asyncio.wait_for(requests[kind](), ANSWER_SECONDS)
                fault = _fault(kind, is_hostile, status, body)
            except (OSError, asyncio.TimeoutError, asyncio.IncompleteReadError, ValueError) as error:
                status, fault = 0, f"{type(error).__name__}: {error}"
            outcomes.append(Outcome(kind, is_hostile, status, time.monotonic() - begin, fault))
        return outcomes

    async def _post(self, path: str, body: bytes, announced: int | None = None) -> tuple[int, bytes]:
        async with self._connection() as (reader, writer):
            writer.write(_head(path, f"Content-Length: {announced or len(body)}") + body)
            return await _answer(reader)

    async def _stream(self, path: str) -> tuple[int, bytes]:
        """Send a gigabyte of unknown length, until there is an answer."""
        async with self._connection() as (reader, writer):
            writer.write(_head(path, "Transfer-Encoding: chunked"))
            answer = asyncio.create_task(_answer(reader))
            chunk = b"40000\r\n" + bytes(0x40000) + b"\r\n"
            with contextlib.suppress(OSError):
                for _ in range(GIGABYTE // 0x40000):
                    if answer.done():
                        break
                    writer.write(chunk)
                    await writer.drain()
            return await answer

    async def _slow(self, path: str) -> tuple[int, bytes]:
        """Send a byte every half second, until there is an answer."""
        async with self._connection() as (reader, writer):
            writer.write(_head(path, "Content-Length: 100000"))
            answer = asyncio.create_task(_answer(reader))
            while not answer.done():
                writer.write(b" ")
                await asyncio.wait([answer], timeout=0.5)
            return await answer

    async def _cut(self, path: str) -> tuple[int, bytes]:
        """Leave in the middle of a request; there cannot be an answer."""
        async with self._connection() as (_, writer):
            writer.write(_head(path, "Content-Length: 100000") + bytes(50_000))
            await writer.drain()
        return 0, b""

    @contextlib.asynccontextmanager
    async def _connection(self):
        reader, writer = await asyncio.open_connection("127.0.0.1", self._load.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def _encoded(samples: np.ndarray, rate: int, file_format: str, subtype: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=file_format, subtype=subtype)
    return file.getvalue()


def _head(path: str, length: str) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{length}\r\n\r\n".encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    assert length, head
    return int(head.split(b" ", 2)[1]), await reader.readexactly(int(length[1]))


def _fault(kind: str, is_hostile: bool, status: int, body: bytes) -> str:
    """Say what is wrong with an answer."""
    if kind == "cut connection":
        return ""
    answer = json.loads(body)
    if is_hostile:
        return "" if 400 <= status < 500 and answer.get("error") else f"status {status}: {body[:100]!r}"
    if status != 200:
        return f"status {status}: {body[:200]!r}"
    outputs = answer.get("outputs") or answer.get("predictions", [answer])[0]
    shares = outputs["probabilities"]
    values = np.array(list(shares.values()) if isinstance(shares, dict) else shares)
    return "" if abs(values.sum() - 1) < 1e-4 else f"probabilities add up to {values.sum()}"


def run_clients(load: Load, results: Any) -> None:
    """Run the clients of one process; put their outcomes into the connection `results`."""

    async def run() -> list[Outcome]:
        client = Client(load)
        end = time.monotonic() + load.seconds
        found = await asyncio.gather(*[client.work(number, end) for number in range(load.clients)])
        return [outcome for outcomes in found for outcome in outcomes]

    results.send(asyncio.run(run()))
    results.close()


class Server:
    """`python -m keras_genre.serve` as a process, whose memory is watched."""

    def __init__(self, model: Path, flags: Sequence[str]):
        command = [sys.executable, "-m", "keras_genre.serve", "--model", str(model), "--port", "0", *flags]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        # The output of this process is for results, and whoever reads them waits until nobody can write any more.
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=self._log)
        self.memory: list[tuple[float, float, float]] = []
        self._stopped = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Server":
        while not (found := re.search(r" on http://.*:(\d+)\n", self.log())):
            if self._process.poll() is not None:
                raise SystemExit(f"the server did not start:\n{self.log()}")
            time.sleep(0.1)
        self.port = int(found[1])
        self._begin = time.monotonic()
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._watcher.join()
        self._process.send_signal(signal.SIGTERM)
        self.exit_status = self._process.wait(timeout=120)

    def log(self) -> str:
        """Return what the server has said so far."""
        return os.pread(self._log.fileno(), 1 << 20, 0).decode()

    def seconds(self) -> float:
        """Return the time since the server was ready."""
        return time.monotonic() - self._begin

    def cpu_seconds(self) -> float:
        """Return the processor time of the server without its decoders."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _watch(self) -> None:
        while not self._stopped.wait(SAMPLE_SECONDS):
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            decoders = sum(_resident_mib(int(pid)) for pid in children)
            self.memory.append((self.seconds(), _resident_mib(self._process.pid), decoders))


def _resident_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
        if found:
            return int(found[1]) / 1024
    return 0.0


def measure(model: Path, options: argparse.Namespace, hostile_share: float) -> dict[str, Any]:
    """Put a server under load and return what was seen."""
    contract = json.loads((model_version(model) / "assets" / "params.json").read_text())
    with Server(model, ["--body-seconds", str(BODY_SECONDS)]) as server:
        context = multiprocessing.get_context("spawn")
        pipes = []
        for number in range(options.processes):
            clients = options.clients // options.processes + (number < options.clients % options.processes)
            load = Load(
                server.port,
                model.resolve().name,
                contract["sample_rate_hz"],
                contract["minimum_samples"],
                clients,
                options.seconds,
                hostile_share,
                number,
            )
            mine, theirs = context.Pipe(duplex=False)
            process = context.Process(target=run_clients, args=(load, theirs))
            process.start()
            theirs.close()
            pipes.append((process, mine))
        outcomes: list[Outcome] = []
        load_begin = server.seconds()
        for process, pipe in pipes:
            outcomes += pipe.recv()
            process.join()
        cpu_seconds = server.cpu_seconds()
    return summary(outcomes, server, load_begin, options.seconds, cpu_seconds)


def model_version(model: Path) -> Path:
    """Return the folder of a model's newest version."""
    return max((folder for folder in model.iterdir() if folder.name.isdigit()), key=lambda folder: int(folder.name))


def summary(
    outcomes: Sequence[Outcome], server: Server, load_begin: float, seconds: float, cpu_seconds: float
) -> dict[str, Any]:
    """Count and measure."""
    kinds = []
    for is_hostile in (False, True):
        for kind in sorted({outcome.kind for outcome in outcomes if outcome.is_hostile == is_hostile}):
            members = [outcome for outcome in outcomes if outcome.kind == kind]
            statuses = collections.Counter(outcome.status for outcome in members)
            kinds.append(
                {
                    "kind": kind,
                    "hostile": is_hostile,
                    "requests": len(members),
                    "statuses": {str(status): count for status, count in sorted(statuses.items())},
                    "faults": sum(bool(outcome.fault) for outcome in members),
                    **_percentiles(members),
                }
            )
    honest = [outcome for outcome in outcomes if not outcome.is_hostile]
    hostile = [outcome for outcome in outcomes if outcome.is_hostile]
    memory = [s for s in server.memory if WARM_UP_SECONDS <= s[0] - load_begin <= seconds] or server.memory
    times, resident = np.array([sample[0] for sample in memory]), np.array([sample[1] for sample in memory])
    half = len(resident) // 2
    growth = np.polyfit(times[half:], resident[half:], 1)[0] * 60 if len(resident) - half > 2 else float("nan")
    return {
        "honest": {"requests": len(honest), "faults": sum(bool(o.fault) for o in honest), **_percentiles(honest)},
        "honest_requests_per_second": len(honest) / seconds,
        "hostile": {"requests": len(hostile), "faults": sum(bool(o.fault) for o in hostile)},
        "kinds": kinds,
        "first_faults": [dataclasses.asdict(outcome) for outcome in outcomes if outcome.fault][:20],
        "server_cpu_seconds": cpu_seconds,
        "server_exit_status": server.exit_status,
        "server_log": server.log().splitlines()[-20:],
        "resident_mib": {
            "after_warm_up": float(resident[: max(len(resident) // 10, 1)].mean()),
            "end": float(resident[-max(len(resident) // 10, 1) :].mean()),
            "peak": float(max(sample[1] for sample in server.memory)),
            "growth_per_minute_in_second_half": float(growth),
            "curve": [tuple(round(value, 1) for value in sample) for sample in server.memory[::4]],
        },
    }


def _percentiles(outcomes: Sequence[Outcome]) -> dict[str, float]:
    seconds = [outcome.seconds for outcome in outcomes] or [float("nan")]
    return {f"p{share}_ms": round(1e3 * float(np.percentile(seconds, share)), 1) for share in (50, 99, 100)}


def markdown(report: dict[str, Any]) -> str:
    """Write a report for people."""
    lines = [
        "# Load on the server",
        "",
        f"`{report['command']}` on {report['machine']}, load average before {report['load_average_before']:.2f}.",
        f"Model `{report['model']}`. {report['clients']} clients, each with one request at a time on a connection of "
        f"its own, for {report['seconds']:g} s; clips of {CLIP_SECONDS:g} s. The clients run on the same cores.",
        "",
    ]
    for title, key in (("Honest requests", "honest"), ("One request in five hostile", "hostile")):
        part = report[key]
        memory = part["resident_mib"]
        lines += [
            f"## {title}",
            "",
            f"{part['honest_requests_per_second']:.1f} honest requests/s, p50 {part['honest']['p50_ms']:.0f} ms, "
            f"p99 {part['honest']['p99_ms']:.0f} ms; {part['honest']['faults']} of {part['honest']['requests']} honest "
            "requests not answered as they should be"
            + (
                f", {part['hostile']['faults']} of {part['hostile']['requests']} hostile ones not refused with 4xx and "
                "a reason."
                if part["hostile"]["requests"]
                else "."
            ),
            f"Memory of the server: {memory['after_warm_up']:.0f} MiB after {WARM_UP_SECONDS:g} s, "
            f"{memory['end']:.0f} MiB at the end, peak {memory['peak']:.0f} MiB; "
            f"{memory['growth_per_minute_in_second_half']:+.1f} MiB a minute in the second half. "
            f"It used {part['server_cpu_seconds']:.0f} s of processor time, its start included and its decoders not. "
            f"Exit status after SIGTERM: {part['server_exit_status']}.",
            "",
            "| request | number | statuses | p50 ms | p99 ms | faults |",
            "|---|---|---|---|---|---|",
        ]
        for kind in part["kinds"]:
            statuses = ", ".join(
                f"{status if status != '0' else 'none'}: {count}" for status, count in kind["statuses"].items()
            )
            lines.append(
                f"| {kind['kind']} | {kind['requests']} | {statuses} | {kind['p50_ms']:.0f} | {kind['p99_ms']:.0f} | "
                f"{kind['faults']} |"
            )
        lines += ["", "| s | " + " | ".join(f"{s:.0f}" for s, *_ in memory["curve"][::3]) + " |"]
        lines += ["|---" * (len(memory["curve"][::3]) + 1) + "|"]
        lines += ["| server, MiB | " + " | ".join(f"{mib:.0f}" for _, mib, _ in memory["curve"][::3]) + " |"]
        lines += ["| decoders, MiB | " + " | ".join(f"{mib:.0f}" for *_, mib in memory["curve"][::3]) + " |", ""]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = cli.parser("benchmarks.serving_load", "Put a server under load, honest and hostile.")
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="saved_models/NAME")
    parser.add_argument("--clients", type=int, default=64, help="requests at a time")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each of the two runs")
    parser.add_argument("--processes", type=int, default=2, help="processes that the clients are spread over")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where the report goes")
    options = parser.parse_args(argv)
    report: dict[str, Any] = {
        "command": f"python -m benchmarks.serving_load --model {options.model} --clients {options.clients} "
        f"--seconds {options.seconds:g}",
        "model": options.model.name,
        "clients": options.clients,
        "seconds": options.seconds,
        "machine": f"{os.cpu_count()} x {platform.machine()} cores, Python {platform.python_version()}",
        "load_average_before": os.getloadavg()[0],
    }
    for key, share in (("honest", 0.0), ("hostile", HOSTILE_SHARE)):
        cli.say(f"{options.clients} clients for {options.seconds:g} s, {share:.0%} of the requests hostile")
        report[key] = measure(options.model, options, share)
    files.write_json(options.out / "serving_load.json", report)
    files.write_text(options.out / "serving_load.md", markdown(report))
    print(markdown(report))
    bad = sum(report[key][who]["faults"] for key in ("honest", "hostile") for who in ("honest", "hostile"))
    return cli.SOME_FAILED if bad else cli.DONE


if __name__ == "__main__":
    sys.exit(main())
