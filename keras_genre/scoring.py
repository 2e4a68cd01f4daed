"""From windows to clips: what a network says of whole clips."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_genre.errors import StoreError
from keras_genre.metrics import mean_by_clip
from keras_genre.pipeline import evaluation_windows
from keras_genre.store import Store


class ClipScorer:
    """Computes the logits of whole clips: the means of their windows' logits.

    Parameters
    ----------
    model : keras.Model
        Input (batch, window_frames, columns), output logits (batch, genres).
    """

    def __init__(self, model: keras.Model):
        _, self.window_frames, self.columns = model.input_shape
        # One graph for every batch size, the smaller last one included.
        signature = [tf.TensorSpec((None, self.window_frames, self.columns), tf.float32)]
        self._forward = tf.function(lambda windows: model(windows, training=False), input_signature=signature)

    def windows(self, windows: np.ndarray | tf.Tensor) -> np.ndarray:
        """Return the logits (windows, genres) of windows (windows, window_frames, columns)."""
        return self._forward(windows).numpy()

    def clips(self, batches: tf.data.Dataset, rows: Sequence[int]) -> np.ndarray:
        """Return the logits of clips.

        Parameters
        ----------
        batches : tf.data.Dataset
            What `pipeline.evaluation_windows` gave for `rows`.
        rows : sequence of int

        Returns
        -------
        np.ndarray [shape=(clips, genres), float64]
            In the order of `rows`.

        Raises
        ------
        StoreError
            If the data cannot be read.
        """
        logits, owners = [], []
        try:
            for windows, owner in batches:
                logits.append(self.windows(windows))
                owners.append(owner.numpy())
        except (tf.errors.DataLossError, tf.errors.NotFoundError) as error:
            raise StoreError(f"the store is damaged: {error.message}") from error
        return mean_by_clip(np.concatenate(logits), np.concatenate(owners), rows)


def score_clips(model: keras.Model, store: Store, rows: Sequence[int]) -> np.ndarray:
    """Return the logits (clips, genres) that a network gives the clips of a store in `rows`."""
    scorer = ClipScorer(model)
    return scorer.clips(evaluation_windows(store, rows, scorer.columns, scorer.window_frames), rows)
