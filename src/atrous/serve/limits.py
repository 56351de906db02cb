"""What the server takes, how much of it at once, and how long it waits."""

from dataclasses import dataclass, fields

from atrous.errors import ConfigError

DECODING_BYTES = 7
"""Per pixel, while an image is decoded: Pillow's own copy beside ours."""


@dataclass(frozen=True)
class Limits:
    """Bounds that hold for every request and for all of them together.

    Attributes:
        max_body_bytes: Largest body, counted while it arrives.
        max_pixels: Most pixels that an image may state; checked before it is decoded.
        max_side_px: Longest side that an image may state.
        max_held_bytes: Bodies and decoded images of all requests together.
        max_waiting: Images that wait for their model.
        max_batch: Images of one size that a model may see at once.
        max_connections: Open connections.
        deadline_s: From the last byte of a body to the first of its answer.
        transfer_s: For the head of a request, for its body, and for each standstill while an
            answer is sent.

    Raises:
        ConfigError: A value cannot be used; the message names it.
    """

    max_body_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    max_side_px: int = 16_384
    max_held_bytes: int = 2**31
    max_waiting: int = 128
    max_batch: int = 16
    max_connections: int = 256
    deadline_s: float = 60.0
    transfer_s: float = 30.0

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:
                raise ConfigError(f"{field.name} must be above 0, not {getattr(self, field.name)}.")
        least_bytes = self.max_body_bytes + DECODING_BYTES * self.max_pixels
        if self.max_held_bytes < least_bytes:
            raise ConfigError(
                f"The memory for all requests together, {self.max_held_bytes / 1e6:.0f} MB, is too "
                f"small for the largest image allowed, which needs {least_bytes / 1e6:.0f} MB "
                f"({self.max_body_bytes / 1e6:.0f} MB as a file and {DECODING_BYTES} bytes a pixel "
                "while it is decoded). Raise it, or allow fewer pixels."
            )
