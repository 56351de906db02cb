"""Profiles of models: parameters, FLOPs, memory, latency, receptive fields, valid taps."""

from atrous.profile.atrous_convs import AtrousConv
from atrous.profile.parts import ModelPart
from atrous.profile.profile_model import ModelProfile, profile_model
from atrous.profile.taps import compute_tap_shares, compute_valid_taps

__all__ = [
    "AtrousConv",
    "ModelPart",
    "ModelProfile",
    "compute_tap_shares",
    "compute_valid_taps",
    "profile_model",
]
