"""The model store: files of weights, pinned by size and SHA-256, fetched once and kept.

An engine names what it needs as `Weight`s and asks a `WeightStore` for them, in a thread:

    paths = await asyncio.to_thread(store.fetch_all, WHISPER_TINY_EN)
"""

from mesh.weights.registry import load_weights
from mesh.weights.spec import Source, Weight
from mesh.weights.store import Progress, State, WeightStore, default_root

__all__ = ["Progress", "Source", "State", "Weight", "WeightStore", "default_root", "load_weights"]
