"""Makes the embedded model's weights a folder that vLLM loads: `python -m tests.vllm.make_model FOLDER`.

The GGUF file is dequantised and saved as safetensors, with its tokenizer and chat template.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from llm_service.weights import SMOLLM2_135M_INSTRUCT
from mesh.weights import WeightStore


def make(folder: Path) -> None:
    """Writes the model into `folder`, and a file `done` when it is whole."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    store = WeightStore()
    path = store.fetch(SMOLLM2_135M_INSTRUCT)
    store.close()
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    # What is saved is not quantised any more, but would still say so.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    (folder / "done").touch()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    make(parser.parse_args().folder)
