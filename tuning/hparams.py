"""The trials of a search for TensorBoard's HParams page."""

import shutil
from pathlib import Path
from typing import Any

from tuning.project import TENSORBOARD
from tuning.space import text_of

METRICS = ("accuracy", "macro_f1", "loss")


def write_hparams(out: Path, result: dict[str, Any]) -> None:
    """Write the values and the results of a trial; `tensorboard --logdir OUT/tensorboard` shows them.

    Parameters
    ----------
    out : Path
        The search folder.
    result : dict
        As `TrialRunner.run` gave it.
    """
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    folder = out / TENSORBOARD / result["trial"]
    # A trial that is run again replaces what it wrote before.
    shutil.rmtree(folder, ignore_errors=True)
    values = {
        name: value if isinstance(value, bool | int | float | str) else text_of(value)
        for name, value in result["values"].items()
    }
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        api.hparams(values, trial_id=result["trial"])
        for name in METRICS:
            tf.summary.scalar(name, result[name], step=result["epochs"])
    writer.close()
