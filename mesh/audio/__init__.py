"""Audio as the mesh carries it: formats, streams to and from mono float32, frames, files."""

from mesh.audio.files import read_audio_file, write_wav
from mesh.audio.formats import MAX_CHUNK_BYTES, Format, read_format
from mesh.audio.streams import Decoder, Encoder, Framer, Resampler, StreamClock

__all__ = [
    "MAX_CHUNK_BYTES",
    "Decoder",
    "Encoder",
    "Format",
    "Framer",
    "Resampler",
    "StreamClock",
    "read_audio_file",
    "read_format",
    "write_wav",
]
