"""Speech-to-text engines; each imports its heavy packages itself."""
