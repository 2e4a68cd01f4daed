"""The server: TensorFlow Serving's REST API over a SavedModel, audio upload, and a page."""
