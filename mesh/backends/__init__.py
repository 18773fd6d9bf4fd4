"""The backends of a service: where they are, how they are, and which of them gets the next call.

`addresses` finds them, `link` asks one how it is, `choice` says in which order they are tried, and `pool` holds it all.
"""
