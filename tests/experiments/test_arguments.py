"""What is read from signatures, on classes made for it."""

from __future__ import annotations

import pytest
import torch

from ddrm_pyg.experiments.arguments import Arguments, resolve


def loss(x):
    return x


class Model:
    """Takes sizes, settings of every kind, code, and hands others to its base."""

    def __init__(
        self, num_users, dims=(8, 4), *, rate=0.5, passes=None, loss=loss, seed=0
    ):
        self.num_users, self.rate, self.seed = num_users, rate, seed
        self.passes = len(dims) if passes is None else passes


class Child(Model):
    """Its ``**`` hands settings to the base."""

    def __init__(self, num_users, *, depth=1, **options):
        super().__init__(num_users, **options)
        self.depth = depth


class Around:
    """Built around a model."""

    def __init__(self, model, embeddings, *, start="a"):
        self.model, self.start = model, start


ARGUMENTS = Arguments(
    Model,
    inputs=("num_users",),
    fixed=("seed",),
    around={"history": None},
    settled=("passes",),
)


def test_defaults_are_those_of_settings():
    assert ARGUMENTS.defaults() == {
        **{"history": None, "dims": (8, 4), "rate": 0.5, "passes": None},
        "loss": loss,
    }
    child = Arguments(Child, inputs=("num_users",)).defaults()
    assert {"depth", "dims", "rate"} <= child.keys()
    assert Arguments().defaults() == {}


def test_settings_are_completed_as_json_has_them():
    assert ARGUMENTS.complete({"rate": 1, "odd": (1,)}) == {
        **{"history": None, "dims": [8, 4], "rate": 1.0, "passes": None, "odd": [1]}
    }
    assert isinstance(ARGUMENTS.complete({"rate": 1})["rate"], float)


def test_later_settings_are_left_out_at_their_neutral_value_only():
    later = Arguments(Model, inputs=("num_users",), later={"dims": (8, 4), "rate": 0.1})
    assert "dims" not in later.complete({})
    assert "dims" not in later.complete({"dims": [8, 4]})
    assert later.complete({"dims": [2]})["dims"] == [2]
    assert later.complete({})["rate"] == 0.5  # the default is no longer neutral
    assert later.fill(later.complete({"rate": 0.1})) == {
        **{"dims": [8, 4], "rate": 0.1, "passes": None, "seed": 0}
    }


def test_none_is_settled_by_the_model():
    assert ARGUMENTS.settle({"passes": None, "dims": [1]})["passes"] == 1
    assert ARGUMENTS.settle({"passes": 7})["passes"] == 7


def test_two_classes_share_settings():
    both = Arguments(Model, Around, inputs=("num_users", "model", "embeddings"))
    assert both.split({"rate": 1, "start": "b", "odd": 2}) == (
        {"rate": 1, "odd": 2},
        {"start": "b"},
    )
    built = both.example({"rate": 0.1, "start": "b"}, users=3)
    assert (built.start, built.model.rate, built.model.num_users) == ("b", 0.1, 3)


def test_a_model_is_built_from_settings_and_what_is_given():
    built = ARGUMENTS.build({"rate": 0.1, "history": 3}, {"num_users": 4})
    assert (built.num_users, built.rate, built.seed) == (4, 0.1, 0)
    with pytest.raises(TypeError, match="odd"):
        ARGUMENTS.build({"odd": 1}, {"num_users": 4})


def test_an_example_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    sizes = ("num_users", "num_items")
    Arguments("ddrm_pyg.nn.models:MF", inputs=sizes).example({}, 4, 5)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": 1}, "'model' has no setting 'rates'; did you mean 'rate'"),
        ({"zz": 1}, r"'model' has no setting 'zz' \(known: history, dims, "),
        ({"seed": 1}, "'model' has no setting 'seed'"),
    ],
)
def test_names_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        ARGUMENTS.check_names("model", settings)


@pytest.mark.parametrize(
    "settings",
    [{"rate": "a"}, {"rate": True}, {"dims": 8}, {"dims": [0.5]}, {"dims": ["a"]}],
)
def test_kinds_are_checked(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"'{name}' must be like "):
        ARGUMENTS.check_kinds(settings)
    ARGUMENTS.check_kinds({"rate": 1, "dims": [1, 2], "passes": "any", "loss": 3})


def test_references_are_imported_on_use():
    assert resolve("ddrm_pyg.nn.models:MF").__name__ == "MF"
    assert resolve(Model) is Model
