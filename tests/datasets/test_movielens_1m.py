import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ddrm_pyg.datasets import MovieLens1M
from ddrm_pyg.transforms.core import EDGE, SPLITS, get_block

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="../shared/data is not here; it is not distributed"
)


def write_ratings(path, user, movie, rating, time):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = np.stack([user, movie, rating, time], axis=1).astype(int)
    path.write_text("".join("{}::{}::{}::{}\n".format(*row) for row in columns))
    return path


@pytest.fixture
def small(tmp_path):
    """12 users like items 1-12 and dislike items 13-15 early and 16 late."""
    user = np.repeat(np.arange(1, 13), 16)
    movie = np.tile(np.arange(1, 17), 12)
    rating = np.where(movie <= 12, 5, 2)
    time = np.where(movie <= 12, movie * 10, np.where(movie == 16, 999, movie))
    write_ratings(
        tmp_path / "ml-1m" / "raw" / "ml-1m" / "ratings.dat", user, movie, rating, time
    )
    return tmp_path


def movies(data, split, user=0):
    index = get_block(data, split)["index"]
    return data["item"].raw_id[index[1, index[0] == user]].tolist()


def test_clean_is_split_in_the_published_order_of_time(small):
    data = MovieLens1M(small, noise="clean")[0]
    # n = 12: test = round(1.21) = 1, train = round(8.47) = 8, validation the rest.
    assert movies(data, "train") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert movies(data, "test") == [9]
    assert movies(data, "val") == [10, 11, 12]
    assert data["item"].raw_id.tolist() == list(range(1, 13))
    assert data["user"].raw_id.tolist() == list(range(1, 13))


def test_natural_adds_low_ratings_and_samples(small):
    data = MovieLens1M(small, noise="natural", seed=3)[0]
    blocks = [get_block(data, split) for split in SPLITS]
    # Before sampling a user has 8 liked and 3 low ratings in train (items 13 to 15,
    # at times 13 to 15) and 3 + 1 in validation (item 16, at the end).
    assert [b["index"].size(1) for b in blocks] == [
        round(0.647 * 12 * 11),
        round(0.48 * 12 * 4),
        12,
    ]
    noisy = data["item"].raw_id[blocks[0]["index"][1, blocks[0]["is_noise"]]].unique()
    assert noisy.tolist() == [13, 14, 15]
    assert not blocks[2]["is_noise"].any()


def test_random_refuses_users_who_have_seen_everything(small):
    with pytest.raises(ValueError, match="user 0 has only 0 unobserved items"):
        MovieLens1M(small, noise="random", noise_ratio=0.25)
    assert not (small / "ml-1m" / "processed").exists()


def test_each_setting_has_its_own_file(small):
    MovieLens1M(small, noise="clean")
    MovieLens1M(small, noise="natural", seed=3)
    folder = small / "ml-1m" / "processed"
    assert sorted(p.name for p in folder.iterdir()) == [
        "clean.safetensors",
        "natural-seed3.safetensors",
    ]


def test_the_same_seed_gives_the_same_data(small):
    one = MovieLens1M(small, seed=1)[0]
    again = MovieLens1M(small, seed=1, force_reload=True)[0]
    other = MovieLens1M(small, seed=2)[0]
    assert torch.equal(one[EDGE].edge_index, again[EDGE].edge_index)
    assert not torch.equal(one[EDGE].edge_index, other[EDGE].edge_index)


def test_an_archive_is_checked_and_extracted(small, monkeypatch, tmp_path):
    raw = tmp_path / "other" / "ml-1m" / "raw"
    raw.mkdir(parents=True)
    archive = raw / "ml-1m.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(
            small / "ml-1m" / "raw" / "ml-1m" / "ratings.dat", "ml-1m/ratings.dat"
        )
    with pytest.raises(ValueError, match=r"ml-1m\.zip: sha256 must be a6898adb"):
        MovieLens1M(tmp_path / "other")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(MovieLens1M, "sha256", digest)
    assert MovieLens1M(tmp_path / "other", noise="clean")[0]["user"].num_nodes == 12

    monkeypatch.setattr(MovieLens1M, "url", archive.as_uri())
    assert MovieLens1M(tmp_path / "third", noise="clean")[0]["item"].num_nodes == 12


def test_without_a_network_the_error_says_what_to_place_where(tmp_path, monkeypatch):
    monkeypatch.setattr(MovieLens1M, "url", (tmp_path / "absent.zip").as_uri())
    with pytest.raises(FileNotFoundError) as error:
        MovieLens1M(tmp_path)
    assert "ml-1m.zip cannot be downloaded" in str(error.value)
    assert str(tmp_path / "ml-1m" / "raw") in str(error.value)


def test_bad_arguments_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"'noise' must be .* \(got 'loud'\)"):
        MovieLens1M(tmp_path, noise="loud")
    with pytest.raises(ValueError, match=r"'ratio' must lie in \[0, 1\) \(got 1.0\)"):
        MovieLens1M(tmp_path, noise="random", noise_ratio=1)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """All of ML-1M; the rank in a user's timeline stands for the time."""
    root = tmp_path_factory.mktemp("datasets")
    with np.load(SHARED / "ml-1m" / "ratings.npz", allow_pickle=False) as z:
        columns = z["user"], z["movie"], z["rating"], z["pos"]
    write_ratings(root / "ml-1m" / "raw" / "ml-1m" / "ratings.dat", *columns)
    return root


def keys(user, movie):
    return np.sort(np.asarray(user, dtype=np.int64) * 10_000 + movie)


@real_data
@pytest.mark.dataset
def test_clean_has_exactly_the_published_pairs(full):
    data = MovieLens1M(full, noise="clean")[0]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (5949, 2810)
    index = torch.cat([get_block(data, split)["index"] for split in SPLITS], dim=1)
    assert index.size(1) == 571_531
    ours = keys(data["user"].raw_id[index[0]], data["item"].raw_id[index[1]].numpy())

    folder = SHARED / "ml-1m" / "clean"
    lists = [np.load(folder / f"{s}_list.npy") for s in ("train", "valid", "test")]
    user, item = np.concatenate(lists).T
    with np.load(folder / "labels.npz", allow_pickle=False) as z:
        published = keys(z["user_raw"][user], z["movie_raw"][item].astype(np.int64))
    assert np.array_equal(ours, published)

    sizes = [get_block(data, split)["index"].size(1) for split in SPLITS]
    assert np.allclose(sizes, [403_277, 110_722, 57_532], rtol=0.01)


@real_data
@pytest.mark.dataset
def test_natural_has_the_published_sizes_and_noise(full):
    data = MovieLens1M(full, noise="natural")[0]
    blocks = [get_block(data, split) for split in SPLITS]
    sizes = [block["index"].size(1) for block in blocks]
    noise = [float(block["is_noise"].float().mean()) for block in blocks]
    assert data["user"].num_nodes == 5949
    assert np.allclose(sizes, [429_993, 130_772, 57_532], rtol=0.01)
    assert np.allclose(noise[:2], [0.393, 0.584], atol=0.015)
    assert noise[2] == 0


@real_data
@pytest.mark.dataset
def test_random_has_the_clean_sizes_and_the_stated_noise(full):
    clean = MovieLens1M(full, noise="clean")[0]
    noisy = MovieLens1M(full, noise="random", noise_ratio=0.3)[0]
    for split in ("train", "val"):
        size = get_block(clean, split)["index"].size(1)
        block = get_block(noisy, split)
        assert block["index"].size(1) == size
        assert int(block["is_noise"].sum()) == round(0.3 * size)
