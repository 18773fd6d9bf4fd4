"""Streaming speech to text."""
