"""Prompts for speech: what every conversation is told, and what makes each character."""
