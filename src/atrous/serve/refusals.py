"""Why a request gets no image back, each with its HTTP status."""

import math

from atrous.errors import AtrousError


class RefusedError(AtrousError):
    """A request that is not served; the message says why and what to do."""

    status = 400

    @property
    def headers(self) -> dict[str, str]:
        """What the answer says beside its body."""
        return {}


class UnknownModelError(RefusedError):
    """There is no model of that name."""

    status = 404


class NotAcceptableError(RefusedError):
    """None of the media types that the sender accepts can be given."""

    status = 406


class SlowSenderError(RefusedError):
    """The body did not arrive in time."""

    status = 408

    @property
    def headers(self) -> dict[str, str]:
        """End the connection: the rest of the body would have to be waited for."""
        return {"Connection": "close"}


class TooLargeError(RefusedError):
    """The body or the image is beyond a limit."""

    status = 413


class UnknownFormatError(RefusedError):
    """The body is no image of a format that is read."""

    status = 415


class UnusableError(RefusedError):
    """A parameter, field or image that is understood and cannot be used."""

    status = 422


class BusyError(RefusedError):
    """There is more work than is taken at once.

    Args:
        message: What is full.
        wait_s: When to come back.
    """

    status = 429

    def __init__(self, message: str, wait_s: float = 1.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s

    @property
    def headers(self) -> dict[str, str]:
        """Say when to come back."""
        return {"Retry-After": str(max(1, math.ceil(self.wait_s)))}


class NotReadyError(BusyError):
    """The server is loading its models or is being stopped."""

    status = 503


class DeadlineError(RefusedError):
    """The answer was not there in time."""

    status = 504
