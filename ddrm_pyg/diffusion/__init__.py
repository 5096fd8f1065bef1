"""Gaussian diffusion on vectors; nothing here knows about recommendation."""

from ddrm_pyg.diffusion.importance import ImportanceSampler
from ddrm_pyg.diffusion.process import GaussianDiffusion
from ddrm_pyg.diffusion.sampler import posterior_sample, spread_steps
from ddrm_pyg.diffusion.schedule import LinearVariance
from ddrm_pyg.diffusion.timestep import timestep_embedding

__all__ = [
    "GaussianDiffusion",
    "ImportanceSampler",
    "LinearVariance",
    "posterior_sample",
    "spread_steps",
    "timestep_embedding",
]
