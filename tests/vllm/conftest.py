"""These tests need vLLM, which lives in an environment of its own: `make test-vllm`."""

from __future__ import annotations

import importlib.util
import os

if importlib.util.find_spec("vllm") is None:
    collect_ignore_glob = ["test_*.py"]

# The model is a folder; nothing is to be looked up. One GiB of cache holds what the tests say.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
