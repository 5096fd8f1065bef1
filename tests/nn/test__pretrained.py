from __future__ import annotations

import inspect
import json
import re

import pytest
import torch

from ddrm_pyg.losses import TruncatedLoss, bce_loss, bpr_loss
from ddrm_pyg.nn.ddrm import DDRM, DDRMRecommender
from ddrm_pyg.nn.models import (
    CDAE,
    MF,
    SGL,
    DiffRec,
    LDiffRec,
    LightGCN,
    MultiVAE,
    SASRec,
)

MODELS = [
    pytest.param(lambda: DDRM(4, (6, 5), num_train_timesteps=7), id="DDRM"),
    pytest.param(lambda: MF(3, 5, 4), id="MF"),
    pytest.param(lambda: LightGCN(3, 5, 4, num_layers=2), id="LightGCN"),
    pytest.param(lambda: SGL(3, 5, embedding_dim=4), id="SGL"),
    pytest.param(lambda: CDAE(3, 5), id="CDAE"),
    pytest.param(lambda: MultiVAE(5), id="MultiVAE"),
    pytest.param(lambda: DiffRec(5, (4,)), id="DiffRec"),
    pytest.param(lambda: SASRec(5, 4, num_layers=1), id="SASRec"),
]


def files_of(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("make", MODELS)
def test_a_folder_gives_the_same_model_back(make, tmp_path):
    model = make()
    model.save_pretrained(tmp_path / "model")
    before = torch.get_rng_state()
    loaded = type(model).from_pretrained(tmp_path / "model")
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(loaded) == repr(model)
    assert not loaded.training
    expected, got = model.state_dict(), loaded.state_dict()
    assert expected.keys() == got.keys()
    assert all(torch.equal(got[name], expected[name]) for name in expected)
    files = ["card.md", "config.json", "model.safetensors"]
    assert files_of(tmp_path / "model") == files


def test_times_of_training_are_not_kept(tmp_path):
    SASRec(5, 4, num_layers=1, edge_time=torch.arange(9)).save_pretrained(tmp_path)
    assert SASRec.from_pretrained(tmp_path).edge_time is None


def test_the_card_says_what_was_built_and_what_was_added(tmp_path):
    model = DDRM(4, (6,), num_train_timesteps=7)
    model.save_pretrained(tmp_path, card={"recall@20": 0.125, "verdict": "helps"})
    card = (tmp_path / "card.md").read_text("utf-8")
    for line in (
        "# DDRM",
        "- num_train_timesteps: 7",
        "- hidden_dims: [6]",
        "- recall@20: 0.125",
        '- verdict: "helps"',
    ):
        assert line in card.splitlines()
    assert json.loads((tmp_path / "config.json").read_text())["card"] == {
        "recall@20": 0.125,
        "verdict": "helps",
    }
    count = sum(value.numel() for value in model.state_dict().values())
    assert f"{count:,} numbers" in card


def test_what_is_no_json_is_refused_and_nothing_is_left(tmp_path):
    loss = TruncatedLoss(bpr_loss, drop_rate=0.1, num_gradual=5)
    for model, name in (
        (MF(2, 3, pair_loss=loss), "pair_loss"),
        (MF(2, 3, pair_loss=bce_loss), "pair_loss"),
        (LDiffRec(torch.tensor([0, 1]), latent_dim=2), "item_group"),
    ):
        with pytest.raises(ValueError, match=f"'{name}' must be its default or JSON"):
            model.save_pretrained(tmp_path / "model")
    with pytest.raises(TypeError):
        MF(2, 3).save_pretrained(tmp_path / "model", card={"object": object()})
    assert not (tmp_path / "model").exists()


def test_another_class_is_named(tmp_path):
    MF(2, 3).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"must hold a DDRM \(got a MF: use MF.from_"):
        DDRM.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "null", "{}", '{"class": ', "[" * 100_000, '{"class": "MF"}'),
        *(f'{{"class": "MF", "arguments": {n}}}' for n in ("null", "[]", '{"x": 1}')),
    ],
)
def test_a_damaged_config_is_refused(tmp_path, text):
    MF(2, 3).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config\.json: not what save_pretrained"):
        MF.from_pretrained(tmp_path)


def test_missing_and_damaged_weights_are_refused(tmp_path):
    MF(2, 3).save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"not a readable \.safetensors file"):
        MF.from_pretrained(tmp_path)
    MF(2, 4).save_pretrained(tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(ValueError, match=re.escape("not the weights of MF(num_users")):
        MF.from_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="no such file"):
        MF.from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError):
        MF.from_pretrained(tmp_path / "nowhere")


def test_representations_show_what_is_no_default():
    ddrm = DDRM(8, (16,), num_train_timesteps=50)
    assert repr(ddrm) == "DDRM(embedding_dim=8, hidden_dims=(16,))"
    assert repr(DDRM()) == "DDRM()"
    pair = (torch.zeros(2, 8), torch.zeros(3, 8))
    shown = f"DDRMRecommender({ddrm!r}, Embeddings(user=[2, 8], item=[3, 8]))"
    assert repr(DDRMRecommender(ddrm, pair)) == shown
    assert "pair_loss=bce_loss" in repr(MF(2, 3, pair_loss=bce_loss))
    assert "item_group=Tensor[2]" in repr(LDiffRec(torch.tensor([0, 1]), latent_dim=2))


def test_signatures_and_errors_are_the_constructor_s_own():
    assert "num_layers" in inspect.signature(LightGCN).parameters
    with pytest.raises(TypeError, match=r"__init__\(\) got an unexpected keyword"):
        DDRM(embeding_dim=3)
