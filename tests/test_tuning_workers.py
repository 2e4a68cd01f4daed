"""A search over several processes loses nothing with a worker, and does not wait for ever for one."""

import contextlib
import os
import signal
import socket
import threading
import time

import pytest
from searches import results_of, start, state_of, words_of
from toys import make_toy_store

from keras_genre.errors import SearchError
from tuning.chief import listening
from tuning.oracles import FAILURES_IN_A_ROW, make_oracle
from tuning.running import without_flag
from tuning.search import main
from tuning.workers import address_of


def wait_for(condition, process, log, seconds=300.0):
    """Wait until something is true, as long as a process lives."""
    ends = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < ends, log.read_text()
        time.sleep(0.05)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def ended_at_exit(process):
    """Leave no process behind, whatever fails."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def ongoing(search) -> dict[str, str]:
    with contextlib.suppress(OSError):
        return state_of(search)["ongoing_trials"]
    return {}


def test_with_a_worker_killed_and_then_all_of_it_a_search_finds_what_one_process_finds(tmp_path):
    for name in ("alone", "spread"):
        make_toy_store(tmp_path / name / "store")
    words = ["--trials", "2", "--epochs", "8"]
    assert start(words_of(tmp_path / "alone", *words), tmp_path / "log").wait() == 0

    log, search = tmp_path / "log", tmp_path / "spread" / "search"
    with ended_at_exit(start(words_of(tmp_path / "spread", *words, "--workers", "2"), log)) as process:
        wait_for(lambda: ongoing(search), process, log)
        victim = child_with_trial(process.pid, search)
        lost = ongoing(search)[victim_name(victim)]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: f"trial {lost} was lost with its worker" in log.read_text(), process, log)
        workers = children_of(process.pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    # Workers do not outlive the chief: they would be in the way of the next ones.
    ends = time.monotonic() + 60
    while any(is_alive(worker) for worker in workers):
        assert time.monotonic() < ends
        time.sleep(0.05)
    # What workers began one process may end.
    with ended_at_exit(start(words_of(tmp_path / "spread", *words), log)) as process:
        assert process.wait(300) == 0, log.read_text()
    assert results_of(search) == results_of(tmp_path / "alone" / "search")
    assert sorted(state_of(search)["end_order"]) == ["0", "1"]
    assert (search / "report.html").is_file()


def is_alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        # Of a process that is over and has not been waited for, the state is Z.
        return open(f"/proc/{pid}/stat", encoding="ascii").read().rpartition(")")[2].split()[0] != "Z"
    return False


def children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(word) for word in file.read().split()]


def victim_name(pid: int) -> str:
    with open(f"/proc/{pid}/environ", "rb") as file:
        variables = dict(pair.split(b"=", 1) for pair in file.read().split(b"\0") if b"=" in pair)
    return variables[b"KERASTUNER_TUNER_ID"].decode()


def child_with_trial(pid: int, search) -> int:
    return next(child for child in children_of(pid) if victim_name(child) in ongoing(search))


def test_a_chief_and_workers_elsewhere_share_a_search(tmp_path):
    make_toy_store(tmp_path / "store")
    (tmp_path / "far").mkdir()
    make_toy_store(tmp_path / "far" / "store")
    address = f"127.0.0.1:{free_port()}"
    words = ["--trials", "1", "--renew-after", "1"]
    # A worker with another idea of the search is told so.
    with ended_at_exit(start(words_of(tmp_path, *words, "--chief", address), tmp_path / "chief.log")) as chief:
        other = words_of(tmp_path / "far", *words, "--set", "batch_size=16", "--worker", address)
        with ended_at_exit(start(other, tmp_path / "other.log")) as process:
            assert process.wait(300) == 1
        assert "params.batch_size: 32 -> 16" in (tmp_path / "other.log").read_text()
        (tmp_path / "far" / "search").rename(tmp_path / "far" / "refused")
        # This one begins a new process after each trial, and is still the same worker.
        own = words_of(tmp_path / "far", *words, "--worker", address)
        with ended_at_exit(start(own, tmp_path / "worker.log")) as process:
            assert chief.wait(300) == 0, (tmp_path / "chief.log").read_text()
            assert process.wait(60) == 0, (tmp_path / "worker.log").read_text()
    greetings = [line for line in (tmp_path / "worker.log").read_text().splitlines() if line.startswith("working for")]
    assert len(greetings) > 1
    assert len(set(greetings)) == 1
    assert [trial["status"] for trial in state_of(tmp_path / "search")["trials"]] == ["COMPLETED"]
    assert (tmp_path / "far" / "search" / "trials" / "0" / "result.json").is_file()


def test_a_chief_without_workers_ends_with_an_error_after_the_stated_time(tmp_path, capsys):
    make_toy_store(tmp_path / "store")
    address = f"127.0.0.1:{free_port()}"
    assert main(words_of(tmp_path, "--trials", "2", "--chief", address, "--wait-seconds", "2")) == 1
    assert "no worker was heard of for 2 s" in capsys.readouterr().err


def test_a_silent_worker_loses_its_trial_and_the_chief_ends_when_no_other_comes(tmp_path):
    oracle = an_oracle(tmp_path)
    with listening(oracle, "127.0.0.1", 0, {}) as chief, client_at(chief.port, oracle) as client:
        trial = client.create_trial("worker-a")
        with pytest.raises(SearchError, match="no worker"):
            chief.watch(silence_seconds=0.5, wait_seconds=1.5)
        # It waits for whoever comes next.
        assert client.create_trial("worker-b").trial_id == trial.trial_id


def test_a_worker_that_gives_signs_of_life_keeps_its_trial_until_the_search_is_over(tmp_path):
    oracle = an_oracle(tmp_path)

    def work(client):
        while (trial := client.create_trial("worker-a")).status == "RUNNING":
            for _ in range(15):
                time.sleep(0.1)
                client.get_trial(trial.trial_id)
            client.update_trial(trial.trial_id, {"val_accuracy": 0.7})
            trial.status = "COMPLETED"
            client.end_trial(trial)

    with listening(oracle, "127.0.0.1", 0, {}) as chief, client_at(chief.port, oracle) as client:
        thread = threading.Thread(target=work, args=(client,))
        thread.start()
        # Far less than a trial takes.
        chief.watch(silence_seconds=0.8, wait_seconds=60.0)
        thread.join()
    assert oracle.losses == {}
    assert [trial.score for trial in oracle.trials.values()] == pytest.approx([0.7, 0.7])


def test_a_chief_whose_worker_dies_after_the_last_trial_ends_all_the_same(tmp_path):
    oracle = an_oracle(tmp_path)
    with listening(oracle, "127.0.0.1", 0, {}) as chief, client_at(chief.port, oracle) as client:
        for _ in range(2):
            trial = client.create_trial("worker-a")
            client.update_trial(trial.trial_id, {"val_accuracy": 0.7})
            trial.status = "COMPLETED"
            client.end_trial(trial)
        chief.watch(silence_seconds=0.5, wait_seconds=60.0)
    assert len(oracle.end_order) == 2


def test_a_search_that_was_given_up_for_its_failures_can_be_gone_on_with(tmp_path):
    oracle = an_oracle(tmp_path, trials=FAILURES_IN_A_ROW + 1)
    for _ in range(FAILURES_IN_A_ROW):
        trial = oracle.create_trial("worker-a")
        trial.status = "FAILED"
        oracle.end_trial(trial)
    with (
        listening(oracle, "127.0.0.1", 0, {}) as chief,
        pytest.raises(SearchError, match=f"the last {FAILURES_IN_A_ROW} trials failed"),
    ):
        chief.watch(silence_seconds=0.5, wait_seconds=60.0)

    oracle = an_oracle(tmp_path, trials=FAILURES_IN_A_ROW + 1)
    with listening(oracle, "127.0.0.1", 0, {}) as chief, client_at(chief.port, oracle) as client:
        work = threading.Timer(0.5, finish_next, (client,))
        work.start()
        chief.watch(silence_seconds=5.0, wait_seconds=60.0)
        work.join()
    assert oracle.trials[oracle.end_order[-1]].score == pytest.approx(0.7)


def finish_next(client) -> None:
    trial = client.create_trial("worker-a")
    client.update_trial(trial.trial_id, {"val_accuracy": 0.7})
    trial.status = "COMPLETED"
    client.end_trial(trial)
    client.create_trial("worker-a")


def an_oracle(folder, trials=2):
    import keras_tuner

    space = keras_tuner.HyperParameters()
    space.Float("x", 0.0, 1.0)
    oracle = make_oracle("random", "val_accuracy", space, trials=trials, epochs=1, factor=3, seed=0)
    oracle.take_up(folder, "tuner")
    return oracle


@contextlib.contextmanager
def client_at(port: int, oracle):
    """KerasTuner's own client of a chief."""
    from keras_tuner.src.distribute import oracle_client

    variables = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
        "KERASTUNER_TUNER_ID": "worker-a",
        "no_grpc_proxy": "127.0.0.1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield oracle_client.OracleClient(oracle)


def test_a_port_that_is_taken_is_an_error_that_names_it(tmp_path):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with (
            pytest.raises(SearchError, match=f"127.0.0.1:{port}: cannot listen"),
            listening(an_oracle(tmp_path), "127.0.0.1", port, {}),
        ):
            pass


def test_the_flag_of_workers_is_not_handed_on_to_them():
    words = ["--workers", "4", "--out", "x", "--workers=4", "--set", "a=b"]
    assert without_flag(words, "--workers") == ["--out", "x", "--set", "a=b"]


@pytest.mark.parametrize("text", ["here", ":1", "host:", "host:port", "host:70000"])
def test_an_address_is_host_and_port(text):
    with pytest.raises(ValueError, match="HOST:PORT"):
        address_of(text)
    assert address_of("10.0.0.1:8000") == ("10.0.0.1", 8000)
