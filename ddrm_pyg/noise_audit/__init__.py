"""Noise audit: score every train interaction, and measure how well that finds noise.

A *signal* is one value per train interaction, in the order of ``edge_index``, that is
higher where the interaction is likelier to be noise. No signal reads ratings, noise
labels or held-out pairs; labels, where there are any, only measure.
"""

from ddrm_pyg.noise_audit.measures import (
    SCOPES,
    Areas,
    Estimate,
    Measure,
    NoiseAudit,
    audit,
    fit_weights,
    inject,
    popularity_decile,
    rank_within_user,
    train_only,
)
from ddrm_pyg.noise_audit.signals import (
    LossTrajectory,
    activity_signal,
    coherence_signal,
    disagreement_signal,
    ease_signal,
    item_knn_signal,
    popularity_signal,
    reconstruction_signal,
)

__all__ = [
    "SCOPES",
    "Areas",
    "Estimate",
    "LossTrajectory",
    "Measure",
    "NoiseAudit",
    "activity_signal",
    "audit",
    "coherence_signal",
    "disagreement_signal",
    "ease_signal",
    "fit_weights",
    "inject",
    "item_knn_signal",
    "popularity_decile",
    "popularity_signal",
    "rank_within_user",
    "reconstruction_signal",
    "train_only",
]
