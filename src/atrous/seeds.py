"""Where randomness comes from: seeds that are pure functions of whole numbers."""

import hashlib


def compute_seed(*parts: int) -> int:
    """Mix whole numbers, such as (seed, epoch, index), to one 63-bit seed."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
