"""`unmute loadtest`: many spoken conversations at once, and what they took."""
