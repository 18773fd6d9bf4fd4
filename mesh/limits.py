"""What a server takes from one caller before it says no; beyond that, gRPC itself refuses."""

from __future__ import annotations

_MIB = 1 << 20
MAX_MESSAGE_BYTES: dict[str, int] = {"stt": _MIB, "tts": _MIB, "orchestrator": _MIB, "llm": 16 * _MIB}
"""Largest message that a service takes, in bytes, also when it came compressed: the llm gets whole conversations."""
MAX_METADATA_BYTES = 16 * 1024
MAX_CALLS_PER_CONNECTION = 4096
HANDSHAKE_SECONDS = 10


def server_limits(name: str) -> tuple[tuple[str, int], ...]:
    """Returns the options of a gRPC server.

    Args:
        name: short name of the service, as `stt`.
    """
    return (
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES.get(name, 4 * _MIB)),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES // 2),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        # No max_allowed_incoming_connections: in grpcio 1.85 each refusal takes a place for good.
        ("grpc.max_concurrent_streams", MAX_CALLS_PER_CONNECTION),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_SECONDS * 1000),
    )
