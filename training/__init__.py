"""Where models come from: simulated sky, packets, training, evaluation."""
