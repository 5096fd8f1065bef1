"""Recommenders: backends that embed, and yardsticks in closed form."""

from ddrm_pyg.nn.models.ease import EASE
from ddrm_pyg.nn.models.item_knn import ItemKNN
from ddrm_pyg.nn.models.lightgcn import LightGCN
from ddrm_pyg.nn.models.mf import MF
from ddrm_pyg.nn.models.popularity import Popularity
from ddrm_pyg.nn.models.sgl import SGL

__all__ = ["EASE", "MF", "SGL", "ItemKNN", "LightGCN", "Popularity"]
