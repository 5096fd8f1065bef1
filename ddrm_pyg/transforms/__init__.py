"""PyG transforms that mark, thin out, split and disturb interactions."""

from ddrm_pyg.transforms.core import KCore, RatingThreshold, compact_ids
from ddrm_pyg.transforms.noise import NaturalNoise, RandomNoise
from ddrm_pyg.transforms.split import HoldOutValidation, TemporalSplit

__all__ = [
    "HoldOutValidation",
    "KCore",
    "NaturalNoise",
    "RandomNoise",
    "RatingThreshold",
    "TemporalSplit",
    "compact_ids",
]
