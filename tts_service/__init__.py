"""Streaming text to speech."""
