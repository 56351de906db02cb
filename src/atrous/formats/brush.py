"""Run lengths of Label Studio's brush: a stream of bits, as the JavaScript package rle-pack."""

import numpy as np


def decode_brush(content: bytes, num_pixels: int) -> np.ndarray | None:
    """Return where the last of four channels is above 0, bool (pixels); None if it is invalid.

    The stream holds the number of values (32 bits), the bits of a value − 1 (5), four run sizes − 1
    (4 each), then blocks. A block is a bit that says whether one value repeats, the index of a run
    size (2), the number of its values − 1, and its value or values.

    Source: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack
    """
    bits = np.unpackbits(np.frombuffer(content, np.uint8))
    position = 0

    def read(num_bits: int) -> int:
        nonlocal position
        start, position = position, position + num_bits
        if position > len(bits):
            raise EOFError
        end = (position + 7) // 8
        value = int.from_bytes(content[start // 8 : end], "big") >> (8 * end - position)
        return value & ((1 << num_bits) - 1)

    try:
        num_values, word = read(32), read(5) + 1
        sizes = [read(4) + 1 for _ in range(4)]
        if num_values != 4 * num_pixels:
            return None
        is_set = np.zeros(num_values, bool)
        done = 0
        while done < num_values:
            is_run = read(1)
            end = done + 1 + read(sizes[read(2)])
            if end > num_values:
                return None
            if is_run:
                is_set[done:end] = read(word) > 0
            else:
                start = position
                position += (end - done) * word
                is_set[done:end] = bits[start:position].reshape(-1, word).any(1)
            done = end
    except (EOFError, ValueError):  # too short
        return None
    return is_set[3::4]
