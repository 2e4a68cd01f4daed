"""Figures show the numbers they are given."""

import numpy as np

from keras_genre.metrics import Scores
from keras_genre.report import confusion_figure, history_figures, report_text, save_figure, scores_table

HISTORY = [
    {"epoch": e, "loss": 2 / e, "accuracy": e / 10, "val_loss": 3 / e, "val_accuracy": e / 20, "learning_rate": 0.1**e}
    for e in (1, 2, 3)
]


def lines_of(figure) -> dict[str, list[float]]:
    return {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}


def test_the_curves_are_the_history(tmp_path):
    figures = history_figures(HISTORY, 3)
    assert lines_of(figures["loss"])["training windows"] == [row["loss"] for row in HISTORY]
    assert lines_of(figures["loss"])["validation clips"] == [row["val_loss"] for row in HISTORY]
    assert lines_of(figures["accuracy"])["validation clips"] == [row["val_accuracy"] for row in HISTORY]
    assert lines_of(figures["learning_rate"])["learning rate"] == [row["learning_rate"] for row in HISTORY]
    assert "kept: epoch 3" in lines_of(figures["loss"])
    for name, figure in figures.items():
        save_figure(figure, tmp_path / f"{name}.png")
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_without_validation_there_is_one_curve():
    history = [{k: v for k, v in row.items() if not k.startswith("val_")} for row in HISTORY]
    assert set(lines_of(history_figures(history, 3)["loss"])) == {"training windows", "kept: epoch 3"}


def test_the_confusion_matrix_has_every_count_in_its_cell_with_the_truth_in_rows():
    confusion = np.array([[5, 2], [0, 3]])
    axes = confusion_figure(Scores(["folk", "rock"], confusion), "title").axes[0]
    cells = {(text.get_position()): text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "5", (1, 0): "2", (1, 1): "3"}
    assert axes.get_ylabel() == "true"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["folk", "rock"]


def test_the_report_names_result_notes_and_facts():
    scores = Scores(["folk", "rock"], np.array([[5, 2], [0, 3]]))
    text = report_text("toy on 10 test clips", scores, ["artists are shared"], {"seed": 7})
    assert "accuracy 0.800 (95 % interval 0.490 to 0.943; 8 of 10 clips)" in text
    assert "- note: artists are shared" in text
    assert "- seed: 7" in text
    assert "| folk | 1.00 | 0.71 | 0.83 | 7 |" in scores_table(scores)
