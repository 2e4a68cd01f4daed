"""From a run to a SavedModel that is known to say what the run says."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_genre import files
from keras_genre.errors import ExportError, RunError
from keras_genre.features.layers import FrontEnd
from keras_genre.lstm_graph import BlockRNN
from keras_genre.models.networks import build_model
from keras_genre.params import TAGGER_KINDS, FrontEndParams, ModelParams, with_embeddings
from keras_genre.pcm_graph import decode_pcm16
from keras_genre.runs import RunInfo, load_model, read_run, require_audio_run
from keras_genre.saved_models import (
    EMBEDDINGS,
    ENCODED,
    FEATURES,
    INPUTS,
    LABELS,
    PARAMS,
    WARMUP,
    WAVEFORM,
    MemberParams,
    SavedModelParams,
    require_free,
    write_checksums,
)
from keras_genre.serving_graph import Member, ServingGraph
from keras_genre.training import versions
from keras_genre.verification import CPU, PROBE, Checks, CleanProcess, Verification, verify
from keras_genre.warmup import warmup_record, write_warmup

WARMUP_SECONDS = 30.0


def export_saved_model(
    runs: Path | Sequence[Path],
    out: Path,
    *,
    replace: bool = False,
    checks: Checks | None = None,
    temperature: float = 1.0,
) -> Verification:
    """Export a run's network and front end as a SavedModel, and verify it before it takes its name.

    Parameters
    ----------
    runs : Path or sequence of Path
        The run folder. Of several, whose genres must be the same, the model holds all networks and gives the mean of
        what they say of a waveform.
    out : Path
        The version's folder, `NAME/1`.
    replace : bool
        Put it in the place of a version that is there already, which must be an export and nothing else.
    checks : Checks, optional
        What to verify; everything by default.
    temperature : float > 0
        What the mean of several networks is divided by.

    Returns
    -------
    Verification
        What was found, all of it within the tolerances.

    Raises
    ------
    RunError
        If a run cannot be read, or several cannot be put together.
    ExportError
        If `out` is there already, or is to be replaced and holds more than an export; or the verification fails.
        Nothing is left at `out` then, or what was there.
    """
    require_free(out, replace)
    folders = [runs] if isinstance(runs, Path) else list(runs)
    infos = [read_run(run) for run in folders]
    _require_one_kind(folders, infos)
    models = [load_for_cpu(run) for run in folders]
    params = saved_model_params(*infos, temperature=temperature)
    versions_folder = out.resolve().parent
    is_new = not versions_folder.exists()
    try:
        with (
            files.locked_folder(versions_folder),
            files.atomic_folder(out, replace=replace) as folder,
            CleanProcess(PROBE) as process,
        ):
            networks = [cpu_twin(model, info.params.model) for model, info in zip(models, infos, strict=True)]
            write_saved_model(folder, networks, params, versions_folder.name)
            return verify(folder, models, params, checks or Checks(), process)
    except (tf.errors.ResourceExhaustedError, tf.errors.UnknownError, tf.errors.InternalError) as error:
        raise ExportError(f"{out}: cannot be written ({error.message})") from error
    finally:
        if is_new:
            # Fails, as it should, where the version is in it.
            with contextlib.suppress(OSError):
                versions_folder.rmdir()


def _require_one_kind(runs: Sequence[Path], infos: Sequence[RunInfo]) -> None:
    if len(runs) == 1:
        return
    for run, info in zip(runs, infos, strict=True):
        if info.genres != infos[0].genres:
            raise RunError(f"{run}: its genres are not those of {runs[0]}; one model has one list of genres")
        require_audio_run(run, info)


def saved_model_params(first: RunInfo, *others: RunInfo, temperature: float = 1.0) -> SavedModelParams:
    """Return what the export of a run, or of several as one model, says of itself."""
    member, *companions = (_member_params(info) for info in (first, *others))
    front_ends = [each.front_end for each in (member, *companions) if each.front_end]
    rate = max((front_end.sample_rate_hz for front_end in front_ends), default=None)
    length = member.window_frames
    return SavedModelParams(
        preset=member.preset,
        genres=first.genres,
        signatures=signatures_of(member.front_end),
        features=member.features,
        dims=member.dims,
        window_frames=length,
        window_seconds=(
            member.front_end.window_seconds(length) if member.front_end else length * first.header.hop_seconds
        ),
        hop_seconds=first.header.hop_seconds,
        sample_rate_hz=rate,
        minimum_samples=max(each.samples_of(each.window_frames, rate) for each in (member, *companions))
        if rate
        else None,
        front_end=member.front_end,
        network=member.network,
        versions={"training": first.versions, "export": versions()},
        companions=tuple(companions),
        temperature=temperature,
    )


def _member_params(info: RunInfo) -> MemberParams:
    params = info.params
    front_end = front_end_of(info)
    return MemberParams(info.preset, params.features, info.columns, params.window_frames, front_end, params.model)


def signatures_of(front_end: FrontEndParams | None) -> tuple[str, ...]:
    """Return the signatures of a model by what its features are made of."""
    if front_end is None:
        return (FEATURES,)
    return (
        (WAVEFORM, FEATURES, ENCODED, EMBEDDINGS) if front_end.kind in TAGGER_KINDS else (WAVEFORM, FEATURES, ENCODED)
    )


def front_end_of(info: RunInfo) -> FrontEndParams | None:
    """Return the front end that makes just the columns that a run's network takes; None if that is not known."""
    front_end = info.header.front_end
    return front_end and dataclasses.replace(front_end, kind=info.params.features)


def load_for_cpu(run: Path) -> keras.Model:
    """Load a run's network so that a CPU alone computes what it says, whatever else there is.

    A GPU rounds otherwise, as to TF32, and lacks operations where results must be the same every time.

    Raises
    ------
    RunError
        If the run has no network, or it is damaged.
    """
    with tf.device(CPU):
        model = load_model(run)
    for layer in model.layers:
        for part in (layer, getattr(layer, "forward_layer", None), getattr(layer, "backward_layer", None)):
            if isinstance(part, keras.layers.LSTM):
                # By itself it takes cuDNN's kernels wherever a GPU is.
                part.use_cudnn = False
    return model


def cpu_twin(model: keras.Model, params: ModelParams, *, fused: bool = True) -> keras.Model:
    """Return a network that gives the logits of `model` on any device.

    cuDNN's kernels run on a GPU only, and with recurrent dropout a network draws random numbers in inference too,
    though it does not use them: the twin has neither.

    Parameters
    ----------
    model : keras.Model
    params : ModelParams
        Of the model.
    fused : bool
        Let LSTM cells in float32 take all steps in one operation, which is faster, and which LiteRT lacks.
    """
    plain = dataclasses.replace(params, dropout=0.0, lstm_inner_dropout=0.0, lstm_recurrent_dropout=0.0)
    _, window_frames, dims = model.input_shape
    rnn = BlockRNN if fused and not plain.mixed_bfloat16 else keras.layers.RNN
    with tf.device(CPU):
        twin = build_model(plain, window_frames, dims, model.output_shape[-1], rnn=rnn)
        twin.set_weights(model.get_weights())
        # It derives from its weights, at this call only, what it computes with.
        twin.get_layer("standardisation").finalize_state()
    return twin


def write_saved_model(folder: Path, networks: Sequence[keras.Model], params: SavedModelParams, name: str) -> None:
    """Write a SavedModel with its assets, warm-up requests and checksums.

    Parameters
    ----------
    folder : Path
    networks : sequence of keras.Model
        What `cpu_twin` gave, one for every member of `params`.
    params : SavedModelParams
    name : str
        What a server will call the model.
    """
    graph = serving_graph(networks, params)
    root = graph.root()
    with tempfile.TemporaryDirectory() as assets:
        for file, content in ((LABELS, labels_text(params)), (PARAMS, files.json_text(dataclasses.asdict(params)))):
            path = Path(assets) / file
            path.write_text(content, encoding="utf-8")
            setattr(root, path.stem, tf.saved_model.Asset(str(path)))
        tf.saved_model.save(root, str(folder), graph.signatures())
    write_warmup(folder / WARMUP, warmup_records(name, params))
    write_checksums(folder)


def labels_text(params: SavedModelParams) -> str:
    """Return `labels.txt`: a genre a line."""
    return "".join(f"{genre}\n" for genre in params.genres)


def serving_graph(networks: Sequence[keras.Model], params: SavedModelParams) -> ServingGraph:
    """Put networks and the front ends that their parameters name together."""
    rate = params.sample_rate_hz
    kinds = dict.fromkeys(with_embeddings(member.front_end) for member in params.members if member.front_end)
    front_ends = {kind: FrontEnd(kind) for kind in kinds}
    members = [
        Member(network, member, front_ends[with_embeddings(member.front_end)] if member.front_end else None, rate)
        for network, member in zip(networks, params.members, strict=True)
    ]
    return ServingGraph(members, params, (lambda encoded: decode_pcm16(encoded, rate)) if rate else None)


def warmup_records(name: str, params: SavedModelParams) -> Iterator[bytes]:
    """Yield a request of silence for every signature, as serialised PredictionLog messages."""
    frames = params.window_frames + 1
    for signature in params.signatures:
        if signature == FEATURES:
            tensor = _zeros((1, frames, params.dims))
        else:
            assert params.sample_rate_hz is not None and params.minimum_samples is not None
            samples = max(params.minimum_samples, round(WARMUP_SECONDS * params.sample_rate_hz))
            if signature in (WAVEFORM, EMBEDDINGS):
                tensor = _zeros((1, samples))
            else:
                silence = np.zeros((params.minimum_samples, 1), np.float32)
                tensor = tf.constant([tf.audio.encode_wav(silence, params.sample_rate_hz).numpy()])
        yield warmup_record(name, signature, {INPUTS[signature]: tensor})


def _zeros(shape: tuple[int, ...]) -> Any:
    # One value that stands for all keeps the file small.
    return tf.make_tensor_proto(0.0, tf.float32, shape)
