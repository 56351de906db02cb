"""Seeds as pure functions of whole numbers."""

import hashlib


def compute_seed(*parts: int) -> int:
    """Combine whole numbers, such as (seed, epoch, index), into a 63-bit seed."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
