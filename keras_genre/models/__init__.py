"""The networks, as plain Keras, and the presets that name them."""
