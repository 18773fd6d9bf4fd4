"""Weights of the embedded text-to-speech engine: all come inside the installed package, so nothing is fetched."""

from __future__ import annotations

from mesh.weights import Weight

_ORIGIN = "Hibari by Maureese Williams (maureesewilliams/hibari), distilled from Kokoro-82M by hexgrad"
_G2P_ORIGIN = "Hibari by Maureese Williams, after the grapheme-to-phoneme lexicon of misaki by hexgrad"


def _asset(file: str, size: int, sha256: str, origin: str = _G2P_ORIGIN) -> Weight:
    return Weight(
        name=f"hibari-heart/{file}",
        source=f"installed:hibari-tts#hibari/assets/{file}",
        size=size,
        sha256=sha256,
        licence="Apache-2.0",
        origin=origin,
    )


def _voice(name: str, file: str, size: int, sha256: str) -> Weight:
    """Another voice of Hibari; size and hash as the package's own list of voices gives them."""
    return Weight(
        name=f"hibari-{name}/{file}",
        source=f"hf:maureesewilliams/hibari#voices/{file}",
        size=size,
        sha256=sha256,
        licence="Apache-2.0",
        origin=_ORIGIN,
        optional=True,
    )


HIBARI_HEART = _asset(
    "hibari.onnx", 7936868, "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8", _ORIGIN
)
"""The voice "heart": American English, 24 kHz."""

HIBARI_TAGGER = _asset(
    "tagger.json.gz",
    1240667,
    "d2da7502284bbbe45d49e0b7ce3ce67bdab82254150f4317f1b8559b4d38d0eb",
    "Hibari by Maureese Williams, part-of-speech tagger",
)
HIBARI_LEXICON_GOLD = _asset(
    "lexicon_us_gold.json.gz", 719352, "63ae94f8ef0e906d5b24fe9b59ffcbd1529aca5686a774610e43973cbaa86ad2"
)
HIBARI_LEXICON_SILVER = _asset(
    "lexicon_us_silver.json.gz", 682530, "c4c2546ebf1eb07010331e7ef785a431aa17ba8e7bfb6b4af8d654ee96a71fd3"
)
HIBARI_OOV = _asset(
    "oov.onnx",
    2975020,
    "d3cfd8122c5f172a98c8de38268bf1213ee09f2c2ae4df6e055fc6532590fe76",
    "Hibari by Maureese Williams, pronunciation of unknown words",
)

HIBARI = (HIBARI_HEART, HIBARI_TAGGER, HIBARI_LEXICON_GOLD, HIBARI_LEXICON_SILVER, HIBARI_OOV)
"""Everything that the voice "heart" reads."""

HIBARI_EMMA = _voice(
    "emma", "bf_emma.int8.onnx", 7936868, "f709f0488ee63b583a22189a955aaf4257b9806dd330be3490661e53af0a89c1"
)
HIBARI_FENRIR = _voice(
    "fenrir", "am_fenrir_v2.int8.onnx", 8031158, "f59fbd87908c91f827bc21b1b89443757b9a8580db9eee20aa948deb731321f4"
)
HIBARI_FABLE = _voice(
    "fable", "bm_fable.int8.onnx", 7936868, "c28529302f2d27cd12f62625c24425888c4e3c2675583100ec530259136b8bc6"
)
HIBARI_KORE = _voice(
    "kore", "af_kore.int8.onnx", 7936868, "346885752673e45d42f9864c9e2432094bc4b6385df060d4b83273da764d2fa9"
)

WEIGHTS = (*HIBARI, HIBARI_EMMA, HIBARI_FENRIR, HIBARI_FABLE, HIBARI_KORE)
