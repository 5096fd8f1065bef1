"""Losses per interaction, never reduced: the caller takes the mean last."""

from ddrm_pyg.losses.contrastive import decoupled_info_nce_loss, info_nce_loss
from ddrm_pyg.losses.pairwise import bpr_loss
from ddrm_pyg.losses.pointwise import bce_loss
from ddrm_pyg.losses.reweighted import ReweightedLoss
from ddrm_pyg.losses.truncated import TruncatedLoss

__all__ = [
    "ReweightedLoss",
    "TruncatedLoss",
    "bce_loss",
    "bpr_loss",
    "decoupled_info_nce_loss",
    "info_nce_loss",
]
