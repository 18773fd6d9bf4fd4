"""The dialect of Unmute's own clients: an early form of the Realtime events, with audio as Opus in Ogg.

Its facts are those of the clients that Kyutai published with Unmute.
"""
