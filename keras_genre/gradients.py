"""What TensorFlow would keep of the graphs of a training that is over."""

import contextlib
from collections.abc import Iterator
from typing import Any

from tensorflow.python.framework import ops


@contextlib.contextmanager
def forgotten_gradients() -> Iterator[None]:
    """Take the gradients that are registered during the block out of TensorFlow's registry at the end of it.

    Keras's optimizers sum gradients over devices, also over a single one, by an operation with a gradient of its own
    (`tf.custom_gradient`). TensorFlow registers that for good, and with it the graph of the training step that it is
    of: about 10 MiB a training. It is looked up while gradients of the graph are derived, which is over then.

    Not for blocks that run at the same time in several threads.
    """
    # There is no public way to it. Where a version of TensorFlow keeps it elsewhere, memory grows as it would.
    registry: dict[str, Any] = getattr(ops.gradient_registry, "_registry", {})
    before = set(registry)
    try:
        yield
    finally:
        for name in registry.keys() - before:
            del registry[name]
