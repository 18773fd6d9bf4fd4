"""What the programs that speak HTTP and WebSockets share: the page and the gateway.

It needs the packages of the extra `gateway`, which the rest of `mesh` does without.
"""
