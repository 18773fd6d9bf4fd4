"""From the event model to Converse and back: pure functions, and the little that they must remember."""
