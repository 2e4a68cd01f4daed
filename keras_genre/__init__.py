"""Music genre classification in TensorFlow/Keras: train, evaluate, tune, serve."""

__version__ = "0.1.0"
