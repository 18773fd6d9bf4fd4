"""What every service shares: serving, channels, errors, settings, audio, and the `unmute` command."""
