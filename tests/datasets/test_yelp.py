import gzip
import json
import logging
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from ddrm_pyg.datasets import Yelp, load_interactions
from ddrm_pyg.transforms import KCore, NaturalNoise, RatingThreshold, TemporalSplit
from ddrm_pyg.transforms.core import EDGE, SPLITS, get_block

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
real_data = pytest.mark.skipif(
    not SHARED.is_dir(), reason="../shared/data is not here; it is not distributed"
)


def review(user, business, stars, seconds):
    """One line as Yelp writes it."""
    date = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
    return json.dumps(
        {
            "review_id": f"r-{user}-{business}",
            "user_id": user,
            "business_id": business,
            "stars": stars,
            "useful": 0,
            "funny": 0,
            "cool": 1,
            "text": 'Ça va, "mostly".\n\nWould go again\u2028soon \U0001f600',
            "date": date,
        },
        ensure_ascii=False,
    )


def write_reviews(root, lines, name="yelp_academic_dataset_review.json"):
    path = root / "yelp" / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def world():
    """12 users like 12 places on following days, and one place they did not."""
    start = 1_500_000_000
    for u in range(12):
        for b in range(12):
            yield review(f"user-{u:02}", f"place-{b:02}", 4.0 + b % 2, start + b)
        yield review(f"user-{u:02}", "-disliked", 2.0, start + 3)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_reviews_become_a_split_graph(tmp_path, suffix):
    write_reviews(tmp_path, world(), f"yelp_academic_dataset_review.json{suffix}")
    data = Yelp(tmp_path, noise="clean")[0]
    assert data["user"].raw_id == [f"user-{u:02}" for u in range(12)]
    assert data["item"].raw_id == [f"place-{b:02}" for b in range(12)]
    # n = 12 at 7:1:2 is 8, 2 and 2, in the order of time.
    for split, places in (("train", range(8)), ("val", (8, 9)), ("test", (10, 11))):
        user, item = get_block(data, split)["index"]
        assert item[user == 3].tolist() == [*places]
    assert data[EDGE].edge_time[:3].tolist() == [1_500_000_000 + b for b in range(3)]
    assert data[EDGE].edge_rating[:3].tolist() == [4, 5, 4]


def test_natural_noise_brings_the_disliked_places_back(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="ddrm_pyg")
    write_reviews(tmp_path, world())
    data = Yelp(tmp_path)[0]
    assert "-disliked" in data["item"].raw_id
    assert [get_block(data, s)["index"].size(1) for s in SPLITS] == [96, 24, 24]
    assert caplog.messages[-1].startswith(
        "yelp, natural: 12 users, 13 items, 144 interactions; Table 1, natural noise: "
        "54,574 users, 77,405 items, 1,471,675 interactions; differs by -54,562 users"
    )


def test_without_the_file_the_error_says_what_to_get_and_where_it_goes(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        Yelp(tmp_path)
    message = str(error.value)
    assert message.startswith("yelp_academic_dataset_review.json is not here")
    assert "https://business.yelp.com/data/resources/open-dataset/" in message
    assert message.endswith(str(tmp_path / "yelp" / "raw"))
    assert list(tmp_path.iterdir()) == []


GOOD = review("u", "b", 5.0, 1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (GOOD[:-9], ":3: does not parse, expected one JSON object per line (Unterm"),
        (GOOD.replace('"stars"', '"star"'), ":3: no column 'stars' (there are 'review"),
        (GOOD.replace("5.0", '"five"'), ":3: column 'stars' is 'five', expected a num"),
        (
            GOOD.replace("5.0", "null"),
            ":3: column 'stars' is 'None', expected a number",
        ),
        (
            GOOD.replace("1970-01-01 00", "yesterday"),
            ":3: column 'date' is 'yesterday:",
        ),
        (GOOD.replace('"1970-01-01 00:00:01"', "12"), ":3: column 'date' is '12', exp"),
        (GOOD.replace('"u"', "null"), ":3: column 'user_id' is 'None', expected an id"),
        ("[]", ":3: expected a JSON object (got '[]')"),
    ],
)
def test_a_bad_review_is_refused_with_its_line(tmp_path, line, message):
    path = write_reviews(tmp_path, [GOOD, "", line])
    with pytest.raises(ValueError, match=r"^yelp_academic") as error:
        Yelp(tmp_path)
    assert path.name + message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "yelp" / "processed").exists()


@real_data
@pytest.mark.dataset
def test_real_ratings_in_yelps_format_are_arranged_like_any_table(tmp_path):
    path = SHARED / "ml-latest-small" / "ratings.csv"
    data = load_interactions(path, split=False)
    user, item = data[EDGE].edge_index
    rows = zip(
        data["user"].raw_id[user].tolist(),
        data["item"].raw_id[item].tolist(),
        data[EDGE].edge_rating.tolist(),
        data[EDGE].edge_time.tolist(),
        strict=True,
    )
    write_reviews(
        tmp_path, (review(f"u{u:07}", f"b{i:07}", r, t) for u, i, r, t in rows)
    )
    yelp = Yelp(tmp_path, seed=5)
    for transform in (
        RatingThreshold(4),
        KCore(10),
        TemporalSplit(),
        NaturalNoise(seed=5),
    ):
        data = transform(data)
    ours = yelp[0]
    names = [ours["item"].raw_id[i] for i in ours[EDGE].edge_index[1].tolist()]
    table = data["item"].raw_id[data[EDGE].edge_index[1]].tolist()
    assert names == [f"b{i:07}" for i in table]
    assert torch.equal(ours[EDGE].edge_time, data[EDGE].edge_time)
    assert torch.equal(ours[EDGE].edge_is_noise, data[EDGE].edge_is_noise)
    assert yelp.counts.users == data["user"].num_nodes
    assert math.isclose(
        float(ours[EDGE].edge_is_noise.float().mean()), 0.4, abs_tol=0.1
    )
