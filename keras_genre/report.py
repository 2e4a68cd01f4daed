"""Figures and tables of a run."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_genre import files
from keras_genre.metrics import Scores, wilson_interval

TRAIN_COLOUR, VALIDATION_COLOUR = "#1f5a99", "#d1661f"
READABLE_NAMES = 80
"""Genres that are named on an axis; of more of them, every second, third, ..."""


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    with files.atomic_path(path) as temporary, matplotlib.rc_context({"savefig.dpi": 120}):
        figure.savefig(temporary)


def history_figures(history: Sequence[dict[str, float]], best_epoch: int) -> dict[str, Figure]:
    """Draw the curves of a training.

    Parameters
    ----------
    history : sequence of dict
        Rows with `epoch`, `loss`, `accuracy`, `learning_rate` and, where there is validation, `val_loss` and
        `val_accuracy`.
    best_epoch : int
        Number of the epoch whose network was kept.

    Returns
    -------
    dict
        Figures by name: `loss`, `accuracy`, `learning_rate`.
    """
    epochs = [row["epoch"] for row in history]
    figures = {}
    for name, label in (("loss", "cross-entropy (nats)"), ("accuracy", "accuracy")):
        figure, axes = _axes(label)
        axes.plot(epochs, [row[name] for row in history], color=TRAIN_COLOUR, label="training windows")
        if f"val_{name}" in history[0]:
            values = [row[f"val_{name}"] for row in history]
            axes.plot(epochs, values, color=VALIDATION_COLOUR, label="validation clips")
        if name == "accuracy":
            axes.set_ylim(0, 1.02)
        _finish(axes, best_epoch)
        figures[name] = figure
    figure, axes = _axes("learning rate")
    axes.step(epochs, [row["learning_rate"] for row in history], where="mid", color=TRAIN_COLOUR, label="learning rate")
    axes.set_yscale("log")
    _finish(axes, best_epoch)
    figures["learning_rate"] = figure
    return figures


def _axes(label: str):
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="epoch", ylabel=label)
    axes.grid(alpha=0.3)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure, axes


def _finish(axes, best_epoch: int) -> None:
    axes.axvline(best_epoch, color="0.5", linewidth=1, linestyle=":", label=f"kept: epoch {best_epoch}")
    axes.legend()


def confusion_figure(scores: Scores, title: str) -> Figure:
    """Draw a confusion matrix: counts in the cells, colour the share of the true genre."""
    # Bounded, because the picture's memory grows with its square: of 1 000 genres it would be 60 000 pixels wide.
    size = min(max(4.5, 1.5 + 0.5 * len(scores.genres)), 24.0)
    figure = Figure(figsize=(size + 0.8, size), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true", title=title)
    shares = scores.confusion / np.maximum(scores.confusion.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    places = range(0, len(scores.genres), -(-len(scores.genres) // READABLE_NAMES))
    # A dollar sign in a name begins no formula.
    names = [scores.genres[place] for place in places]
    axes.set_xticks(places, names, rotation=45, ha="right", rotation_mode="anchor", parse_math=False)
    axes.set_yticks(places, names, parse_math=False)
    # Numbers in more cells than this cannot be read.
    if len(scores.genres) <= 30:
        for (row, column), count in np.ndenumerate(scores.confusion):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour)
    figure.colorbar(image, label="share of the true genre", shrink=0.8)
    return figure


def reliability_figure(parts: Sequence[dict[str, float]], title: str) -> Figure:
    """Draw what `metrics.reliability` found: accuracy over confidence, with the 95 % interval of each part."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.add_subplot(xlabel="probability of the genre found", ylabel="share that is right", title=title)
    axes.plot([0, 1], [0, 1], color="0.5", linewidth=1, linestyle=":", label="calibrated")
    confidence = [part["confidence"] for part in parts]
    accuracy = np.array([part["accuracy"] for part in parts])
    ends = np.array([wilson_interval(part["accuracy"] * part["clips"], int(part["clips"])) for part in parts])
    reach = np.abs(ends.T - accuracy)
    axes.errorbar(confidence, accuracy, reach, fmt="o-", color=TRAIN_COLOUR, capsize=3, label="clips")
    for part in parts:
        place = (part["confidence"], part["accuracy"])
        axes.annotate(f"{part['clips']:.0f}", place, xytext=(5, -11), textcoords="offset points", fontsize=8)
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    return figure


def scores_table(scores: Scores) -> str:
    """Return precision, recall, F1 and clips of each genre as a Markdown table."""
    lines = ["| genre | precision | recall | F1 | clips |", "|---|---|---|---|---|"]
    for genre, row in scores.per_genre().items():
        # A bar would end the cell.
        name = genre.replace("|", "&#124;")
        lines.append(f"| {name} | {row['precision']:.2f} | {row['recall']:.2f} | {row['f1']:.2f} | {row['clips']} |")
    return "\n".join(lines)


def report_text(title: str, scores: Scores, notes: Sequence[str], facts: dict[str, object]) -> str:
    """Return a report as Markdown: the result, what to know of it, the facts that repeat it, the table."""
    lines = [f"# {title}", "", scores.sentence(), ""]
    lines += [f"- note: {note}" for note in notes]
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join([*lines, "", scores_table(scores), ""])
