"""What the terminal clients are made of: a player, a paced microphone, a transcript, and one conversation."""
