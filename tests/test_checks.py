"""Every argument is checked at one place, and a refusal allocates nothing."""

import math

import numpy as np
import pytest
import torch

from ddrm_pyg.ann import ApproximateIndex
from ddrm_pyg.checks import (
    MAX_SIZE,
    check_among,
    check_at_least,
    check_list_length,
    check_positive,
    check_share,
    check_size,
    nearest,
)
from ddrm_pyg.embeddings import Embeddings
from ddrm_pyg.nn.conv import light_propagate
from ddrm_pyg.nn.ddrm import DDRM
from ddrm_pyg.nn.deca import DeCA
from ddrm_pyg.nn.denoiser import GateDenoiser, MLPDenoiser, TransformerDenoiser
from ddrm_pyg.nn.models import (
    CDAE,
    EASE,
    MF,
    SGL,
    SVD,
    AdaGCL,
    DiffRec,
    LDiffRec,
    LightGCN,
    MultiDAE,
    MultiVAE,
)
from ddrm_pyg.ranking import evaluate, recommend
from ddrm_pyg.testing import checkerboard
from ddrm_pyg.training import fit


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (lambda: check_at_least(1, k=0), r"'k' must be >= 1 \(got 0\)"),
        (lambda: check_at_least(0, k=math.nan), r"'k' must be >= 0 \(got nan\)"),
        (lambda: check_at_least(0, k=math.inf), r"'k' must be finite .* \(got inf\)"),
        (lambda: check_at_least(0, k=1e308), r"float32, <= 3\.4e\+38 \(got 1e\+308\)"),
        (lambda: check_positive(k=0), r"'k' must be positive \(got 0\)"),
        (lambda: check_positive(k=math.nan), r"'k' must be positive \(got nan\)"),
        (lambda: check_positive(k=math.inf), r"'k' must be finite .* \(got inf\)"),
        (lambda: check_share(p=1.5), r"'p' must lie in \[0, 1\] \(got 1\.5\)"),
        (lambda: check_share(p=math.nan), r"'p' must lie in \[0, 1\] \(got nan\)"),
        (lambda: check_size(1, k=0), r"'k' must be >= 1 \(got 0\)"),
        (lambda: check_size(1, k=2.0), r"'k' must be an integer \(got 2\.0\)"),
        (lambda: check_size(1, k=True), r"'k' must be an integer \(got True\)"),
        (lambda: check_size(0, k=10**12), r"'k' must be <= 1048576 \(got 10{12}\)"),
        (lambda: check_list_length(1001, 5), r"'k' must be <= 5, .* \(got 1001\)"),
        (lambda: check_among({"b", "a"}, s="c"), r"of \['a', 'b'\] \(got 'c'\)"),
    ],
)
def test_arguments_are_refused_by_name(check, message):
    with pytest.raises(ValueError, match=message):
        check()


def test_arguments_in_their_range_pass():
    check_at_least(1, k=1)
    check_at_least(0, k=3.3e38)
    check_positive(k=1e-300)
    check_share(p=0.0, q=1.0)
    check_size(0, k=0, m=MAX_SIZE, n=np.int64(3))
    check_list_length(1000, 5)
    check_list_length(10**7, 10**7)
    check_among({"a"}, s="a")


HUGE = 10**8
GROUPS = torch.tensor([0, 1])
EMB = Embeddings(torch.ones(40, 2), torch.ones(40, 2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: MF(2, 3, HUGE),
        lambda: LightGCN(2, 3, num_layers=HUGE),
        lambda: SGL(2, 3, num_layers=HUGE),
        lambda: AdaGCL(2, 3, num_layers=HUGE),
        lambda: SVD(HUGE),
        lambda: CDAE(2, 3, HUGE),
        lambda: CDAE(2, 3, num_negatives=HUGE),
        lambda: MultiVAE(3, (HUGE, 2)),
        lambda: MultiVAE(3, (HUGE,)),
        lambda: MultiDAE(3, (HUGE,)),
        lambda: DiffRec(3, (HUGE,)),
        lambda: DiffRec(3, time_dim=HUGE),
        lambda: DiffRec(3, num_train_timesteps=HUGE),
        lambda: DiffRec(3, history_length=HUGE),
        lambda: LDiffRec(GROUPS, HUGE),
        lambda: LDiffRec(GROUPS, decoder_dims=(4 * HUGE,)),
        lambda: DeCA(MF(2, 3), aux_dim=HUGE),
        lambda: DeCA(MF(2, 3), num_negatives=HUGE),
        lambda: DDRM(HUGE),
        lambda: DDRM(8, (HUGE,)),
        lambda: DDRM(8, time_dim=HUGE),
        lambda: DDRM(8, num_train_timesteps=HUGE),
        lambda: DDRM(8, sampler="posterior", num_inference_steps=HUGE),
        lambda: MLPDenoiser(8, (4, HUGE)),
        lambda: TransformerDenoiser(8, (4,), num_heads=HUGE),
        lambda: GateDenoiser(HUGE, (4,)),
        lambda: light_propagate(EMB, torch.zeros(2, 1, dtype=torch.int64), HUGE),
        lambda: recommend(EMB, torch.arange(2), k=HUGE),
        lambda: evaluate(EMB, checkerboard(), k=(10, HUGE)),
    ],
)
def test_absurd_sizes_are_refused_before_anything_is_allocated(make):
    with pytest.raises(ValueError, match=r"' must be <= .*\(got [124]0{8}\)"):
        make()


def test_absurd_lists_of_an_index_are_refused():
    pytest.importorskip("faiss")
    index = ApproximateIndex(EMB.item, num_groups=1)
    with pytest.raises(ValueError, match=r"'k' must be <= 40, .*\(got 10{8}\)"):
        index.recommend(EMB, torch.arange(2), k=HUGE)


@pytest.mark.parametrize("value", [math.inf, 1e308])
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("l2", lambda value: MF(2, 3, l2=value)),
        ("init_std", lambda value: LightGCN(2, 3, init_std=value)),
        ("l2", lambda value: EASE(l2=value)),
        ("ssl_weight", lambda value: SGL(2, 3, ssl_weight=value)),
        ("ib_weight", lambda value: AdaGCL(2, 3, ib_weight=value)),
        ("beta", lambda value: MultiVAE(3, beta=value)),
        ("c1", lambda value: DeCA(MF(2, 3), c1=value)),
        ("gamma", lambda value: DDRM(8, gamma=value)),
        ("diffusion_lr", lambda value: LDiffRec(GROUPS, diffusion_lr=value)),
        ("lr", lambda value: fit(MF(40, 40), checkerboard(), lr=value)),
        (
            "weight_decay",
            lambda value: fit(MF(40, 40), checkerboard(), weight_decay=value),
        ),
    ],
)
def test_numbers_beyond_float32_are_refused(name, make, value):
    with pytest.raises(ValueError, match=rf"'{name}' must be finite in float32"):
        make(value)


def test_nearest():
    assert nearest("lightgnc", ["mf", "lightgcn"]) == "; did you mean 'lightgcn'?"
    assert nearest("xyz", ["mf", "lightgcn"]) == ""
    assert nearest("mff", {"mf": 1}) == "; did you mean 'mf'?"
