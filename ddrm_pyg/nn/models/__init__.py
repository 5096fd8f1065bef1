"""Recommenders: backends that embed, and yardsticks in closed form."""

from ddrm_pyg.nn.models.adagcl import AdaGCL
from ddrm_pyg.nn.models.cdae import CDAE
from ddrm_pyg.nn.models.diffrec import (
    DiffRec,
    LDiffRec,
    LTDiffRec,
    OrderWeight,
    TDiffRec,
    group_items,
)
from ddrm_pyg.nn.models.ease import EASE
from ddrm_pyg.nn.models.item_knn import ItemKNN
from ddrm_pyg.nn.models.lightgcn import LightGCN
from ddrm_pyg.nn.models.mf import MF
from ddrm_pyg.nn.models.multivae import MultiDAE, MultiVAE
from ddrm_pyg.nn.models.popularity import Popularity
from ddrm_pyg.nn.models.sasrec import SASRec
from ddrm_pyg.nn.models.sgl import SGL
from ddrm_pyg.nn.models.svd import SVD

__all__ = [
    "CDAE",
    "EASE",
    "MF",
    "SGL",
    "SVD",
    "AdaGCL",
    "DiffRec",
    "ItemKNN",
    "LDiffRec",
    "LTDiffRec",
    "LightGCN",
    "MultiDAE",
    "MultiVAE",
    "OrderWeight",
    "Popularity",
    "SASRec",
    "TDiffRec",
    "group_items",
]
