"""The original's networks and recipe in plain PyTorch, as they were meant: what our presets are compared with.

The recipe is the original's, less its defects (state carried between batches, a last batch dropped, a dropout whose
output was thrown away, a softmax too many, schedules that hardly ran, no channel axis): an LSTM sees the first
128 frames of a clip, the Conv2D network five segments of 6 s; nothing is standardised.
"""

import copy
import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.optim import lr_scheduler

from keras_genre.params import ModelParams, TrainParams

LSTM_FRAMES = 128
CONV_SEGMENTS = 5


class SteppedLSTM(nn.Module):
    """LSTM layers with Keras's dropout on inputs and state, which `nn.LSTM` does not have.

    One mask for each sequence, the same at all its steps (Gal and Ghahramani, 2016).
    """

    def __init__(self, dims: int, units: Sequence[int], inner_dropout: float, recurrent_dropout: float):
        super().__init__()
        sizes = [dims, *units]
        self.cells = nn.ModuleList(nn.LSTMCell(a, b) for a, b in itertools.pairwise(sizes))
        self.inner, self.recurrent = nn.Dropout(inner_dropout), nn.Dropout(recurrent_dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the last step (batch, units) of sequences (batch, frames, dims)."""
        steps = list(x.unbind(1))
        for cell in self.cells:
            input_mask = self.inner(torch.ones_like(steps[0]))
            state = torch.zeros(len(x), cell.hidden_size), torch.zeros(len(x), cell.hidden_size)
            state_mask = self.recurrent(torch.ones_like(state[0]))
            outputs = []
            for step in steps:
                state = cell(step * input_mask, (state[0] * state_mask, state[1]))
                outputs.append(state[0])
            steps = outputs
        return steps[-1]


class LSTM(nn.Module):
    """LSTM layers, dropout, a dense layer on the last step."""

    def __init__(self, params: ModelParams, dims: int, genres: int):
        super().__init__()
        units = params.lstm_units
        if params.lstm_inner_dropout or params.lstm_recurrent_dropout:
            self.layers = SteppedLSTM(dims, units, params.lstm_inner_dropout, params.lstm_recurrent_dropout)
        elif len(set(units)) == 1:
            self.layers = nn.LSTM(dims, units[0], num_layers=len(units), batch_first=True)
        else:
            sizes = [dims, *units]
            self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in itertools.pairwise(sizes))
        self.dropout = nn.Dropout(params.dropout)
        self.logits = nn.Linear(units[-1], genres)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, genres) of windows (batch, frames, dims)."""
        if isinstance(self.layers, SteppedLSTM):
            last = self.layers(x)
        else:
            for layer in self.layers if isinstance(self.layers, nn.ModuleList) else [self.layers]:
                x, _ = layer(x)
            last = x[:, -1]
        return self.logits(self.dropout(last))


class Conv2D(nn.Module):
    """Three blocks of convolution, ReLU, pooling and batch normalisation, then two dense layers."""

    def __init__(self, params: ModelParams, frames: int, dims: int, genres: int):
        super().__init__()
        blocks: list[nn.Module] = []
        channels = 1
        for kernel, pool in ((3, 3), (3, 3), (2, 2)):
            blocks += [
                nn.Conv2d(channels, params.conv_filters, kernel, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(pool, stride=2),
                nn.BatchNorm2d(params.conv_filters),
            ]
            channels = params.conv_filters
        self.blocks = nn.Sequential(*blocks, nn.Flatten())
        with torch.no_grad():
            flat = self.blocks.eval()(torch.zeros(1, 1, frames, dims)).shape[1]
        self.blocks.train()
        self.head = nn.Sequential(
            nn.Linear(flat, params.dense_units),
            nn.ReLU(),
            nn.Dropout(params.dropout),
            nn.Linear(params.dense_units, genres),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits (batch, genres) of windows (batch, frames, dims)."""
        return self.head(self.blocks(x[:, None]))


def make_network(params: ModelParams, frames: int, dims: int, genres: int) -> nn.Module:
    """Make the network that `keras_genre.models.networks.build_model` would make."""
    return LSTM(params, dims, genres) if params.family == "lstm" else Conv2D(params, frames, dims, genres)


def make_schedule(params: TrainParams, epochs: int, optimizer: torch.optim.Optimizer):
    """Make PyTorch's scheduler of the schedule's name with the original's parameters.

    Its cycles and steps count the original's epochs, of one window a clip.
    """
    schedule = params.schedule
    if schedule.name == "plateau":
        return lr_scheduler.ReduceLROnPlateau(optimizer, "max", patience=10, factor=0.1)
    if schedule.name == "cosine":
        minimum = params.learning_rate * schedule.cosine_minimum_ratio
        return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, max(1, epochs // 5), eta_min=minimum)
    if schedule.name == "step":
        return lr_scheduler.StepLR(optimizer, 10, 0.1)
    return lr_scheduler.ConstantLR(optimizer, 1.0)


@dataclasses.dataclass(frozen=True)
class Twin:
    """A trained twin: its logits of the test clips, its size, and the epochs that it took."""

    logits: np.ndarray
    parameters: int
    epochs: int


def windows_of(frames: np.ndarray, params: TrainParams) -> np.ndarray:
    """Return what the original cut from a clip: (windows, frames, dims)."""
    if params.model.family == "lstm":
        return frames[np.newaxis, : min(LSTM_FRAMES, params.window_frames)]
    length = params.window_frames
    count = min(CONV_SEGMENTS, len(frames) // length)
    return np.stack([frames[start : start + length] for start in range(0, count * length, length)])


def train_twin(
    params: TrainParams,
    clips: dict[str, Sequence[np.ndarray]],
    labels: dict[str, np.ndarray],
    genres: int,
    epochs: int,
    patience: int,
) -> Twin:
    """Train a twin and score the test clips with its best epoch by validation loss.

    Parameters
    ----------
    params : TrainParams
        The preset, for network, batch size, learning rate, schedule and seed.
    clips, labels : dict
        Of `train`, `validation` and `test`: frames (frames, dims) of each clip, labels (clips,).
    genres, epochs : int > 0
    patience : int >= 0
        Epochs without a better validation loss after which training stops; 0: never.
    """
    torch.manual_seed(params.seed)
    cut = {split: [windows_of(frames, params) for frames in members] for split, members in clips.items()}
    x = torch.from_numpy(np.concatenate(cut["train"]).astype(np.float32))
    y = torch.from_numpy(np.repeat(labels["train"], [len(windows) for windows in cut["train"]]))
    network = make_network(params.model, x.shape[1], x.shape[2], genres)
    optimizer = torch.optim.Adam(network.parameters(), lr=params.learning_rate)
    schedule = make_schedule(params, epochs, optimizer)
    loss_of = nn.CrossEntropyLoss()
    best, best_epoch, kept, epoch = float("inf"), 0, copy.deepcopy(network.state_dict()), 0
    for epoch in range(epochs):
        network.train()
        for batch in torch.randperm(len(x)).split(params.batch_size):
            # Batch normalisation has no variance over a batch of one.
            if len(batch) == 1 and params.model.family == "conv2d":
                continue
            optimizer.zero_grad()
            loss_of(network(x[batch]), y[batch]).backward()
            optimizer.step()
        logits = torch.from_numpy(clip_logits(network, cut["validation"]))
        targets = torch.from_numpy(labels["validation"])
        loss = float(loss_of(logits, targets))
        accuracy = float((logits.argmax(1) == targets).float().mean())
        schedule.step(*([accuracy] if params.schedule.name == "plateau" else []))
        if loss < best:
            best, best_epoch, kept = loss, epoch, copy.deepcopy(network.state_dict())
        if patience and epoch - best_epoch >= patience:
            break
    network.load_state_dict(kept)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Twin(clip_logits(network, cut["test"]), parameters, epoch + 1)


def clip_logits(network: nn.Module, clips: Sequence[np.ndarray], batch: int = 256) -> np.ndarray:
    """Return the mean logits (clips, genres) of each clip's windows."""
    network.eval()
    counts = [len(windows) for windows in clips]
    windows = torch.from_numpy(np.concatenate(clips).astype(np.float32))
    with torch.no_grad():
        logits = torch.cat([network(part) for part in windows.split(batch)]).numpy()
    starts = np.cumsum([0, *counts[:-1]])
    return np.add.reduceat(logits, starts) / np.array(counts)[:, np.newaxis]
