"""What a server allows and how it behaves."""

import dataclasses

from keras_genre.errors import ParameterError


@dataclasses.dataclass(frozen=True)
class ServerSettings:
    """Limits and rhythms of a server.

    Attributes
    ----------
    max_body_bytes : int > 0
        Larger requests are refused, by their announced length or as soon as they exceed it.
    max_bodies_bytes : int > 0
        Of all requests that are being received or worked on together.
    max_audio_seconds : float > 0
        Longer audio is refused.
    max_requests : int > 0
        So many requests may be worked on or wait at a time; further ones are told to come back.
    body_seconds : float > 0
        Time for a request's body to arrive.
    answer_seconds : float > 0
        Time from a complete request to its answer.
    batch_rows : int > 0
        Rows of requests of equal shape that are computed together; 1: each request alone.
    batch_values : int > 0
        Numbers in one batch, unless a single request has more.
    batch_wait_seconds : float >= 0
        How long the first request of a batch waits for others.
    inference_threads : int > 0
        Batches computed at a time.
    decoders : int > 0
        Processes that decode uploaded audio.
    versions : int > 0
        The newest so many versions are served.
    poll_seconds : float > 0
        Time between two looks for new versions.
    stop_seconds : float > 0
        Time that requests in flight have when the server is told to stop.
    """

    max_body_bytes: int = 64 << 20
    max_bodies_bytes: int = 256 << 20
    max_audio_seconds: float = 600.0
    max_requests: int = 128
    body_seconds: float = 30.0
    answer_seconds: float = 60.0
    batch_rows: int = 16
    batch_values: int = 8_000_000
    batch_wait_seconds: float = 0.002
    inference_threads: int = 2
    decoders: int = 2
    versions: int = 1
    poll_seconds: float = 2.0
    stop_seconds: float = 60.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (value > 0 or (value == 0 and field.name == "batch_wait_seconds")):
                raise ParameterError(f"{field.name} must be positive, not {value}")
