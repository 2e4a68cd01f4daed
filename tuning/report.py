"""What a search found, for people: figures, the importance of each hyperparameter, a page, a table."""

import base64
import dataclasses
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from keras_genre import files
from tuning.records import TrialRecord, best_first
from tuning.space import Domain, Space, text_of

PAGE, PICTURE = "report.html", "report.png"
LEAST_FOR_IMPORTANCE = 8
"""Trials below which nothing can be said of what matters."""

LABEL: dict[str, Any] = {
    "fontsize": 7,
    "va": "center",
    "color": "0.15",
    "bbox": {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5},
}


@dataclasses.dataclass(frozen=True)
class Column:
    """A hyperparameter over the trials, as places on an axis.

    Attributes
    ----------
    name : str
    places : np.ndarray [shape=(trials,), float]
        In [0, 1]; NaN where the trial did not have it.
    ticks : list of (place, text)
    """

    name: str
    places: np.ndarray
    ticks: list[tuple[float, str]]


def columns_of(trials: Sequence[TrialRecord], space: Space) -> list[Column]:
    """Return the hyperparameters that vary among trials, in the order of the space."""
    columns = [_column(domain, [trial.values.get(domain.name) for trial in trials]) for domain in space.domains]
    return [column for column in columns if len({place for place in column.places if not np.isnan(place)}) > 1]


def _column(domain: Domain, values: list[Any]) -> Column:
    known = [value for value in values if value is not None]
    if not domain.values:
        numbers = np.array([np.nan if value is None else value for value in values], float)
        low, high = (np.log10([domain.low, domain.high])) if domain.log else (domain.low, domain.high)
        scaled = np.log10(numbers) if domain.log else numbers
        span = (high - low) or 1.0
        marks = np.linspace(low, high, 3)
        ticks = [((mark - low) / span, f"{10**mark if domain.log else mark:.2g}") for mark in marks]
        return Column(domain.name, (scaled - low) / span, ticks)
    ordered = sorted(set(map(_sortable, known)))
    last = max(len(ordered) - 1, 1)
    place = {key: number / last for number, key in enumerate(ordered)}
    places = np.array([np.nan if value is None else place[_sortable(value)] for value in values])
    return Column(domain.name, places, [(place[key], key[1]) for key in ordered])


def _sortable(value: Any) -> tuple[float, str]:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    return number, text_of(value)


@dataclasses.dataclass(frozen=True)
class Importance:
    """How much each hyperparameter matters to the objective.

    Attributes
    ----------
    shares : dict
        Hyperparameter -> mean fall of the forest's R2 when its values are shuffled over the trials; from large to
        small.
    explained : float
        R2 of the forest on trials that a tree has not seen: what the shares are worth. At 0 or below, nothing.
    """

    shares: dict[str, float]
    explained: float


def importance_of(trials: Sequence[TrialRecord], space: Space) -> Importance | None:
    """Estimate what matters, by a random forest from values to objectives (Breiman, 2001).

    Returns
    -------
    Importance or None
        None where there are too few trials.
    """
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    columns = columns_of(trials, space)
    if len(trials) < LEAST_FOR_IMPORTANCE or not columns:
        return None
    # A hyperparameter that a trial did not have has a place of its own.
    inputs = np.nan_to_num(np.array([column.places for column in columns]).T, nan=-1.0)
    objectives = np.array([trial.objective for trial in trials])
    forest = RandomForestRegressor(300, min_samples_leaf=2, oob_score=True, random_state=0).fit(inputs, objectives)
    found = permutation_importance(forest, inputs, objectives, n_repeats=20, random_state=0)
    shares = {column.name: float(share) for column, share in zip(columns, found.importances_mean, strict=True)}
    ranked = dict(sorted(shares.items(), key=lambda item: -item[1]))
    return Importance(ranked, float(forest.oob_score_))


def figure_of(trials: Sequence[TrialRecord], space: Space, objective: str) -> Figure:
    """Draw parallel coordinates, the importance of each hyperparameter and the objective over the trials."""
    columns = columns_of(trials, space)
    figure = Figure(figsize=(max(13.0, 3 + 0.9 * len(columns)), 10), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=(3, 2))
    _parallel(figure, figure.add_subplot(grid[0, :]), trials, columns, objective)
    _over_trials(figure.add_subplot(grid[1, 0]), trials, objective)
    _importance(figure.add_subplot(grid[1, 1]), importance_of(trials, space))
    return figure


def _parallel(
    figure: Figure, axes: Axes, trials: Sequence[TrialRecord], columns: Sequence[Column], objective: str
) -> None:
    objectives = np.array([trial.objective for trial in trials])
    low, high = objectives.min(), objectives.max()
    span = high - low or 1.0
    axes.set_title(f"parallel coordinates: a line is a trial, its colour the {objective}")
    norm = matplotlib.colors.Normalize(low, low + span)
    colours = matplotlib.colormaps["viridis"]
    x = np.arange(len(columns) + 1)
    for number in np.argsort(objectives):
        heights = [column.places[number] for column in columns] + [(objectives[number] - low) / span]
        # A gap where the trial did not have the hyperparameter.
        axes.plot(x, heights, color=colours(norm(objectives[number])), linewidth=1.2, alpha=0.8, marker=".")
    for place, column in enumerate(columns):
        axes.axvline(place, color="0.8", linewidth=0.8, zorder=0)
        for height, text in column.ticks:
            axes.text(place + 0.05, height, text, **LABEL)
    axes.axvline(len(columns), color="0.8", linewidth=0.8, zorder=0)
    for height in (0.0, 1.0):
        axes.text(len(columns) + 0.05, height, f"{low + height * span:.3f}", **LABEL)
    axes.set_xticks(x, [*(column.name for column in columns), objective], rotation=30, ha="right", fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.1, len(columns) + 0.4)
    figure.colorbar(matplotlib.cm.ScalarMappable(norm, colours), ax=axes, label=objective, shrink=0.8)


def _over_trials(axes: Axes, trials: Sequence[TrialRecord], objective: str) -> None:
    objectives = [trial.objective for trial in trials]
    numbers = range(1, len(trials) + 1)
    axes.plot(numbers, objectives, "o", color="#1f5a99", markersize=4, label="a trial")
    axes.step(numbers, np.maximum.accumulate(objectives), where="post", color="#d1661f", label="the best so far")
    axes.set(title=f"{objective} over the trials", xlabel="trial, in the order of their ends", ylabel=objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()


def _importance(axes: Axes, importance: Importance | None) -> None:
    axes.set_title("importance of each hyperparameter")
    if importance is None:
        axes.text(0.5, 0.5, f"fewer than {LEAST_FOR_IMPORTANCE} trials: nothing can be said", ha="center", va="center")
        axes.set_axis_off()
        return
    names = list(importance.shares)[::-1]
    axes.barh(names, [importance.shares[name] for name in names], color="#1f5a99")
    axes.set_xlabel(f"fall of R2 when shuffled (R2 on unseen trials: {importance.explained:.2f})")
    axes.tick_params(axis="y", labelsize=8)


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: .2rem .6rem; border-bottom: 1px solid #ddd }
th { text-align: left; position: sticky; top: 0; background: #fff } td.number { text-align: right }
tr.best { background: #eaf3e6 } tr.failed { color: #999 } img { max-width: 100% } .scroll { overflow-x: auto }
"""


def write_report(
    out: Path, title: str, space: Space, objective: str, facts: dict[str, str], trials: Sequence[TrialRecord]
) -> None:
    """Write `report.html` and `report.png` into a search folder.

    Parameters
    ----------
    out : Path
    title : str
    space : Space
    objective : str
        Name of what was maximised.
    facts : dict
        What a reader should know, by name.
    trials : sequence of TrialRecord
        In the order of their ends; at least one succeeded.
    """
    done = [trial for trial in trials if trial.succeeded]
    figure = figure_of(done, space, objective)
    with matplotlib.rc_context({"savefig.dpi": 110}):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png")
    files.write_bytes(out / PICTURE, buffer.getvalue())
    picture = base64.b64encode(buffer.getvalue()).decode()
    lines = [
        "<!doctype html>",
        f'<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title><style>{STYLE}</style>',
        f"<h1>{html.escape(title)}</h1>",
        "<ul>",
        *(f"<li>{html.escape(name)}: {html.escape(text)}</li>" for name, text in facts.items()),
        "</ul>",
        f'<img alt="parallel coordinates, objective over trials, importance" src="data:image/png;base64,{picture}">',
        '<h2>Trials</h2><div class="scroll">',
        table(trials, objective),
        "</div></html>",
    ]
    files.write_text(out / PAGE, "\n".join(lines) + "\n")


FACTS = (
    "epochs",
    "seconds",
    "parameters",
    "cudnn_eligible",
    "mixed_bfloat16",
    "steps_per_execution",
    "peak_memory_mib",
)


def table(trials: Sequence[TrialRecord], objective: str) -> str:
    """Return the trials as an HTML table, the best first, failed ones last."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.values))
    ranked = best_first(trials) + [trial for trial in trials if not trial.succeeded]
    heads = "".join(f"<th>{html.escape(head)}</th>" for head in ("trial", objective, *names, *FACTS))
    rows = [f"<table><tr>{heads}</tr>"]
    for place, trial in enumerate(ranked):
        kind = "failed" if not trial.succeeded else "best" if place == 0 else ""
        result = f"{trial.objective:.4f}" if trial.succeeded else trial.message or "failed"
        cells = [trial.trial, result, *(text_of(trial.values[name]) if name in trial.values else "" for name in names)]
        cells += [text_of(trial.facts.get(name, "")) for name in FACTS]
        rows.append(f'<tr class="{kind}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return "\n".join([*rows, "</table>"])
