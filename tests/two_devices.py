"""Trains on two devices, which a process must ask for before it uses any. Command: `python two_devices.py FOLDER`."""

import sys
from pathlib import Path

import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)

from test_replicas import RECIPES, resumed_params  # noqa: E402
from toys import make_toy_store  # noqa: E402

from keras_genre import train as command  # noqa: E402
from keras_genre.replicas import devices_named  # noqa: E402
from keras_genre.training import make_plan, train  # noqa: E402

folder = Path(sys.argv[1])
store = make_toy_store(folder / "store")
devices = devices_named("cpu:0,CPU:1")
for name, params in RECIPES.items():
    train(make_plan(store, params), "toy", folder / name, devices=devices)

for name, stops in (("whole", (2,)), ("resumed", (1, 2))):
    for epochs in stops:
        plan = make_plan(store, resumed_params(epochs))
        train(plan, "toy", folder / name, resume=epochs > stops[0], devices=devices)

flags = ["--data", folder / "store", "--out", folder / "command", "--window-frames", "16", "--epochs", "1"]
flags += ["--set", "model.lstm_units=4"]
assert command.main([*map(str, flags), "--devices", "CPU:0,CPU:1", "--no-export"]) == 0
# A run keeps its devices.
assert command.main(["--out", str(folder / "command"), "--resume", "--epochs", "2", "--no-export"]) == 0
assert command.main(["--out", str(folder / "command"), "--resume", "--devices", "CPU:1", "--no-export"]) == 1
