"""Weights of the embedded text-to-speech engine: all come inside the installed package, so nothing is fetched."""

from __future__ import annotations

from mesh.weights import Weight

_ORIGIN = "Hibari by Maureese Williams (maureesewilliams/hibari), distilled from Kokoro-82M by hexgrad"
_G2P_ORIGIN = "grapheme-to-phoneme data of Hibari by Maureese Williams, after misaki by hexgrad"


def _asset(file: str, size: int, sha256: str, origin: str = _G2P_ORIGIN, licence: str = "Apache-2.0") -> Weight:
    return Weight(
        name=f"hibari-heart/{file}",
        source=f"installed:hibari-tts#hibari/assets/{file}",
        size=size,
        sha256=sha256,
        licence=licence,
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

HIBARI_G2P = (
    _asset("vocab.json", 1144, "70abefbe8a1c8865e43e0a43bbdc25b91a33e4aa053479d443ccf23e20a59e5d"),
    _asset("normalize.json", 6769, "d478ff05404bc43ac3e0468e306674e51085f1b1afc94cdef7c7ea4fb0d56bd8"),
    _asset(
        "tokenizer_exceptions.json",
        32450,
        "ddf3a3da07bdcf5144270ea4530191d8580fb4fd6f5ae93296e87916e795659a",
        "tokenizer rules of spaCy by Explosion, as shipped in Hibari",
        licence="MIT",
    ),
    _asset("tagger.json.gz", 1240667, "d2da7502284bbbe45d49e0b7ce3ce67bdab82254150f4317f1b8559b4d38d0eb"),
    _asset("lexicon_us_gold.json.gz", 719352, "63ae94f8ef0e906d5b24fe9b59ffcbd1529aca5686a774610e43973cbaa86ad2"),
    _asset("lexicon_us_silver.json.gz", 682530, "c4c2546ebf1eb07010331e7ef785a431aa17ba8e7bfb6b4af8d654ee96a71fd3"),
    _asset("oov.json", 2273, "b462e6e5dbdf0e7346c732385d0dd844f612f1770871441c56932bff4ca75d8c"),
    _asset("oov.onnx", 2975020, "d3cfd8122c5f172a98c8de38268bf1213ee09f2c2ae4df6e055fc6532590fe76"),
)
"""What turns American English text into the phonemes of the voices."""

HIBARI = (HIBARI_HEART, *HIBARI_G2P)
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
