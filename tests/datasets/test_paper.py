import logging

import pytest
import torch

from ddrm_pyg.datasets.paper import Counts, PaperDataset, find_raw
from ddrm_pyg.datasets.readers import load_interactions
from ddrm_pyg.transforms.core import EDGE, SPLITS, get_block


class Small(PaperDataset):
    """12 users like items 1-12 one after another, and dislike item 13 in between."""

    name = "small"
    raw_file_names = ("ratings.csv",)
    table1 = {"natural": Counts(12, 13, 150), "random": Counts(12, 12, 144)}  # noqa: RUF012

    def download(self):
        lines = [f"{u},{i},5,{i}" for u in range(12) for i in range(1, 13)]
        lines += [f"{u},13,1,3" for u in range(12)]
        with open(self.raw_paths[0], "w") as file:
            file.write("\n".join(["user,item,rating,time", *lines]))

    def read(self, path):
        return load_interactions(path, split=False)


def items_of(data, split, user=0):
    index = get_block(data, split)["index"]
    return data["item"].raw_id[index[1, index[0] == user]].tolist()


def test_clean_is_split_as_the_paper_states(tmp_path):
    data = Small(tmp_path, noise="clean")[0]
    # n = 12: test = round(2.4) = 2, train = round(8.4) = 8, validation the rest.
    assert items_of(data, "train") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert items_of(data, "val") == [9, 10]
    assert items_of(data, "test") == [11, 12]


def test_natural_noise_keeps_the_sizes_of_the_clean_set(tmp_path):
    clean, natural = (Small(tmp_path, noise=noise)[0] for noise in ("clean", "natural"))
    for split in SPLITS:
        size = get_block(clean, split)["index"].size(1)
        assert get_block(natural, split)["index"].size(1) == size
    assert natural[EDGE].edge_is_noise.any()
    noisy = natural[EDGE].edge_index[1, natural[EDGE].edge_is_noise]
    assert natural["item"].raw_id[noisy].unique().tolist() == [13]
    assert not natural[EDGE].test_edge_is_noise.any()


def test_the_size_is_told_beside_table_1(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ddrm_pyg")
    Small(tmp_path, noise="clean")
    assert caplog.messages[-1] == (
        "small, clean: 12 users, 12 items, 144 interactions; Table 1, random noise: "
        "12 users, 12 items, 144 interactions; the same"
    )
    caplog.clear()
    Small(tmp_path)  # 8 of 9 pairs of each user in train, so 12 * 12 in all
    assert caplog.messages[-1] == (
        "small, natural: 12 users, 13 items, 144 interactions; Table 1, natural noise: "
        "12 users, 13 items, 150 interactions; differs by -6 interactions (-4.0%)"
    )
    Small(tmp_path)
    assert caplog.messages[-1] == caplog.messages[-2]  # also when it is only opened


def test_a_core_that_leaves_nothing_names_the_file_and_writes_nothing(tmp_path):
    raw = tmp_path / "small" / "raw"
    raw.mkdir(parents=True)
    raw.joinpath("ratings.csv").write_text("user,item,rating,time\n1,2,5,3\n")
    with pytest.raises(ValueError, match=r"ratings\.csv: KCore\(k=10\) leaves no inte"):
        Small(tmp_path)
    assert not (tmp_path / "small" / "processed").exists()


def test_seeds_and_settings_have_files_of_their_own(tmp_path):
    one, other = (Small(tmp_path, seed=seed)[0] for seed in (1, 2))
    assert not torch.equal(one[EDGE].edge_index, other[EDGE].edge_index)
    folder = tmp_path / "small" / "processed"
    assert sorted(p.name for p in folder.iterdir()) == [
        "natural-seed1.safetensors",
        "natural-seed2.safetensors",
    ]


def test_the_first_file_that_is_there_is_read(tmp_path):
    assert find_raw(tmp_path, ["a", "b", "c"]) == "a"
    for name in ("c", "b"):
        tmp_path.joinpath(name).touch()
    assert find_raw(tmp_path, ["a", "b", "c"]) == "b"
