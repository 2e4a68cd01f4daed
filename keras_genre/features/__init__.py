"""From a waveform to feature frames."""
