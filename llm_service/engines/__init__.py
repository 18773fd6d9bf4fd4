"""Language-model engines; each imports its heavy packages itself."""
