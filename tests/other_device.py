"""Makes what an export is held against where another device than the CPU is at hand: `python other_device.py RUN`.

A second logical CPU, on which everything would be placed, stands for a GPU. TensorFlow logs where operations are.
"""

import sys
from pathlib import Path

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from keras_genre.exporting import cpu_twin, load_for_cpu, saved_model_params  # noqa: E402
from keras_genre.runs import read_run  # noqa: E402
from keras_genre.verification import Checks, expectations  # noqa: E402

run = Path(sys.argv[1])
info = read_run(run)
tf.debugging.set_log_device_placement(True)
with tf.device("CPU:1"):
    model = load_for_cpu(run)
    cpu_twin(model, info.params.model)
    expectations([model], saved_model_params(info), Checks(seconds=(1.0,), batch_size=1))
    # What follows shows that such a log tells of the other device.
    print("expectations are made", file=sys.stderr, flush=True)
    tf.function(lambda: tf.random.uniform((2,)))()
