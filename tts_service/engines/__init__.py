"""Text-to-speech engines; each imports its heavy packages itself."""
