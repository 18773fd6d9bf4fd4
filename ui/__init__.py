"""The page: a conversation in the browser. Its server side is a client of the orchestrator and nothing else."""
