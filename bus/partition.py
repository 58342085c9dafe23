"""Which partition a plant's records travel on: Kafka's own rule for keys (murmur2), so that whoever
else writes with the plant as key meets the same partition.
"""

from __future__ import annotations

from functools import lru_cache

_SEED, _MULTIPLIER, _SHIFT, _MASK = 0x9747B28C, 0x5BD1E995, 24, 0xFFFFFFFF


@lru_cache(maxsize=1 << 16)
def partition_of(plant: str, partitions: int) -> int:
    """The partition of a plant's records among ``partitions``; 0 for no plant."""
    return (murmur2(plant.encode()) & 0x7FFFFFFF) % partitions if plant else 0


def murmur2(data: bytes) -> int:
    """MurmurHash2 (32 bits, Austin Appleby) as Kafka's clients use it for keys."""
    value = _SEED ^ len(data)
    body = len(data) & ~3
    for at in range(0, body, 4):
        word = int.from_bytes(data[at : at + 4], "little") * _MULTIPLIER & _MASK
        word = (word ^ word >> _SHIFT) * _MULTIPLIER & _MASK
        value = value * _MULTIPLIER & _MASK ^ word
    if rest := data[body:]:
        value = (value ^ int.from_bytes(rest, "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15
