"""The chief of a search over several processes: KerasTuner's service, watched.

KerasTuner's own chief waits for ever for a worker that is gone. This one listens for signs of life: a worker asks for
its trial again every few seconds (`GetTrial`). The trial of a silent worker is given to another.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
from keras_tuner.src import protos
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from keras_genre import cli, files
from keras_genre.errors import SearchError
from tuning.oracles import Lasting

IDENTITY = "search"
WATCH_SECONDS = 0.25


class Servicer(OracleServicer):
    """KerasTuner's service, which notes when it heard of each worker.

    Attributes
    ----------
    heard : dict
        Tuner -> time of the last sign of life.
    last_heard : float
        Time of the last sign of anyone; of the start, before the first.
    failure : Exception or None
        What the oracle failed of.
    """

    def __init__(self, oracle: Lasting, identity: str):
        super().__init__(oracle)
        self._identity = identity
        self.heard: dict[str, float] = {}
        self.last_heard = time.monotonic()
        self.failure: Exception | None = None

    def GetSpace(self, request, context):
        """Return the space, and with it what search this is."""
        hps = self.oracle.get_space()
        hps.Fixed(IDENTITY, self._identity)
        return protos.get_service().GetSpaceResponse(hyperparameters=hps.to_proto())

    def CreateTrial(self, request, context):
        """Give a worker a trial."""
        self._hear(request.tuner_id)
        return self._answer(super().CreateTrial, request, context)

    def GetTrial(self, request, context):
        """Take a sign of life."""
        self._hear_of_trial(request.trial_id)
        return self._answer(super().GetTrial, request, context)

    def UpdateTrial(self, request, context):
        """Take a result."""
        self._hear_of_trial(request.trial_id)
        return self._answer(super().UpdateTrial, request, context)

    def EndTrial(self, request, context):
        """Take the end of a trial."""
        self._hear_of_trial(request.trial.trial_id)
        return self._answer(super().EndTrial, request, context)

    def _answer(self, method: Callable[[Any, Any], Any], request, context):
        try:
            return method(request, context)
        except Exception as error:
            # The oracle's lock stays taken: nothing can go on.
            self.failure = error
            context.abort(grpc.StatusCode.INTERNAL, f"the chief failed: {error}")

    def _hear_of_trial(self, trial_id: str) -> None:
        for tuner_id, trial in list(self.oracle.ongoing_trials.items()):
            if trial.trial_id == trial_id:
                self._hear(tuner_id)

    def _hear(self, tuner_id: str) -> None:
        self.last_heard = time.monotonic()
        self.heard[tuner_id] = self.last_heard


class Chief:
    """A chief that listens.

    Attributes
    ----------
    port : int
        Where.
    """

    def __init__(self, oracle: Lasting, servicer: Servicer, port: int):
        self.port = port
        self._oracle = oracle
        self._servicer = servicer

    @property
    def is_over(self) -> bool:
        """Whether all trials have ended."""
        return (self._servicer.stop_triggered or self._oracle.is_complete) and not self._oracle.has_work()

    def watch(
        self,
        silence_seconds: float,
        wait_seconds: float,
        look_after_workers: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait until the search is over.

        Parameters
        ----------
        silence_seconds : float > 0
            A worker that gave no sign of life for so long has lost its trial.
        wait_seconds : float > 0
            Wait so long for any sign of any worker.
        look_after_workers : callable, optional
            Called again and again.

        Raises
        ------
        SearchError
            If no worker is left, or trial after trial fails.
        """
        while not self.is_over:
            time.sleep(WATCH_SECONDS)
            if self._servicer.failure:
                raise SearchError(f"the tuner failed: {self._servicer.failure}") from self._servicer.failure
            self._oracle.check_failures()
            look_after_workers()
            self._take_back_silent(silence_seconds)
            if time.monotonic() - self._servicer.last_heard > wait_seconds:
                raise SearchError(
                    f"no worker was heard of for {wait_seconds:g} s; what is finished is kept. "
                    "Run the command again, and its workers"
                )
        # Workers that have not heard that it is over would wait for a chief that is gone.
        ends = time.monotonic() + silence_seconds
        while self._oracle.tuner_ids and time.monotonic() < ends:
            time.sleep(WATCH_SECONDS)
            look_after_workers()

    def lost(self, tuner_id: str) -> None:
        """Take back the trial of a worker that is known to be gone."""
        self._servicer.heard.pop(tuner_id, None)
        trial = self._oracle.take_back(tuner_id)
        if trial is not None:
            cli.say(f"trial {trial.trial_id} was lost with its worker {tuner_id}; it is run again")

    def _take_back_silent(self, silence_seconds: float) -> None:
        now = time.monotonic()
        for tuner_id in list(self._oracle.ongoing_trials):
            if now - self._servicer.heard.setdefault(tuner_id, now) > silence_seconds:
                self.lost(tuner_id)


@contextlib.contextmanager
def listening(oracle: Lasting, host: str, port: int, identity: dict[str, Any]) -> Iterator[Chief]:
    """Give a chief that listens at an address; port 0: any free one.

    Raises
    ------
    SearchError
        If the address cannot be had.
    """
    # One thread, as KerasTuner has it: an oracle's lock goes by the name of the thread.
    server = grpc.server(futures.ThreadPoolExecutor(1), options=[("grpc.so_reuseport", 0)])
    servicer = Servicer(oracle, files.json_text(identity))
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise SearchError(f"--chief {host}:{port}: cannot listen there ({error})") from error
    if not bound:
        raise SearchError(f"--chief {host}:{port}: cannot listen there; is the port taken?")
    server.start()
    try:
        yield Chief(oracle, servicer, bound)
    finally:
        server.stop(grace=1.0).wait()
