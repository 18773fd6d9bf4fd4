"""llama.cpp's own OpenAI-compatible server with the embedded model, as a program: prints its URL and serves."""

from __future__ import annotations

import sys

import xllamacpp

from llm_service.weights import SMOLLM2_135M_INSTRUCT
from mesh.weights import WeightStore


def main(slots: int, context_tokens: int) -> None:
    """Serves until standard input ends."""
    store = WeightStore()
    params = xllamacpp.CommonParams()
    params.model.path = str(store.fetch(SMOLLM2_135M_INSTRUCT))
    store.close()
    params.model_alias = ["smollm2"]
    params.n_parallel = slots
    params.n_ctx = slots * context_tokens
    params.n_batch = params.n_ubatch = 64
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    params.ui = False
    params.verbosity = -1
    params.port = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
