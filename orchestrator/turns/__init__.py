"""The pure core of a conversation: `reduce(state, event, now) -> (state, actions)`.

No I/O, no clock, no tasks, no randomness: the shell (`orchestrator.session`) performs the actions and feeds the
events. `now` is the session's time, in seconds, from a monotonic clock; it never goes back.
"""
