"""The commands that belong to the mesh itself: the supervisor and the clients."""
