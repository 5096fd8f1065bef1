"""Losses per interaction, never reduced: the caller takes the mean last."""

from ddrm_pyg.losses.contrastive import info_nce_loss
from ddrm_pyg.losses.pairwise import bpr_loss

__all__ = ["bpr_loss", "info_nce_loss"]
