"""What a model is made of, what it takes, and what its atrous convolutions see."""

from atrous.inspect.atrous_convs import AtrousConv
from atrous.inspect.fits import Fit, parse_memory
from atrous.inspect.inspection import Inspection, inspect_model
from atrous.inspect.parts import Part
from atrous.inspect.taps import compute_tap_shares, compute_valid_taps

__all__ = [
    "AtrousConv",
    "Fit",
    "Inspection",
    "Part",
    "compute_tap_shares",
    "compute_valid_taps",
    "inspect_model",
    "parse_memory",
]
