"""What moves: consumer, pipeline, producer, dead letters, the Ray application, the command line."""
