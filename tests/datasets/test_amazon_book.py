import gzip
import json

import pytest
import torch

from ddrm_pyg.datasets import AmazonBook
from ddrm_pyg.transforms.core import EDGE, get_block

START = 1_400_000_000


def ratings():
    """12 readers like 12 books on following seconds, and one that they did not."""
    for u in range(12):
        user = f"A{u:02}READER0Z"
        for b in range(12):
            yield user, f"00000000{b:02}", 4.0 + b % 2, START + b
        yield user, "B00DISLIKE", 1.0, START + 3


def lines(make):
    return "".join(make(*row) + "\n" for row in ratings())


def review_2014(user, item, rating, time):
    return {
        "reviewerID": user,
        "asin": item,
        "reviewerName": "O'Neil",
        "helpful": [0, 1],
        "reviewText": 'It\'s "good"',
        "overall": rating,
        "unixReviewTime": time,
        "reviewTime": "05 13, 2014",
    }


def review_2023(user, item, rating, time):
    return {
        "rating": rating,
        "title": "good",
        "images": [],
        "asin": "another",
        "parent_asin": item,
        "user_id": user,
        "timestamp": time * 1000 + 7,
        "verified_purchase": True,
    }


EDITIONS = {
    "ratings_Books.csv": lines(lambda u, i, r, t: f"{u},{i},{r},{t}"),
    "reviews_Books.json.gz": lines(lambda *row: json.dumps(review_2014(*row))),
    "reviews_Books.json": lines(lambda *row: repr(review_2014(*row))),
    "reviews_Books_5.json.gz": lines(lambda *row: json.dumps(review_2014(*row))),
    "Books.csv": lines(lambda u, i, r, t: f"{i},{u},{r},{t}"),
    "Books.json.gz": lines(lambda *row: json.dumps(review_2014(*row))),
    "Books.csv.gz": "user_id,parent_asin,rating,timestamp\n"
    + lines(lambda u, i, r, t: f"{u},{i},{r},{t}007"),
    "Books.jsonl.gz": lines(lambda *row: json.dumps(review_2023(*row))),
}


def place(root, name, content):
    path = root / "amazon-book" / "raw" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    packed = content.encode()
    path.write_bytes(gzip.compress(packed) if name.endswith(".gz") else packed)
    return path


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    root = tmp_path_factory.mktemp("reference")
    place(root, "ratings_Books.csv", EDITIONS["ratings_Books.csv"])
    return AmazonBook(root)[0]


def test_the_2014_table_is_arranged_by_hand(reference):
    assert reference["user"].raw_id == [f"A{u:02}READER0Z" for u in range(12)]
    books = [f"00000000{b:02}" for b in range(12)]
    assert reference["item"].raw_id == [*books, "B00DISLIKE"]
    sizes = [get_block(reference, s)["index"].size(1) for s in ("train", "val", "test")]
    assert sizes == [12 * 8, 12 * 2, 12 * 2]
    user, item = reference[EDGE].test_edge_label_index
    assert item[user == 0].tolist() == [10, 11]
    assert reference[EDGE].test_edge_time[:2].tolist() == [START + 10, START + 11]


@pytest.mark.parametrize("name", EDITIONS)
def test_all_editions_of_the_same_ratings_give_the_same_data(tmp_path, reference, name):
    place(tmp_path, name, EDITIONS[name])
    dataset = AmazonBook(tmp_path)
    data = dataset[0]
    for kind in ("user", "item"):
        assert data[kind].raw_id == reference[kind].raw_id
    assert {*data[EDGE].keys()} == {*reference[EDGE].keys()}
    for key, value in reference[EDGE].items():
        assert torch.equal(data[EDGE][key], value), key
    (processed,) = (tmp_path / "amazon-book" / "processed").iterdir()
    stem = name.removesuffix(".gz")
    assert processed.name == f"{stem}-natural-seed0.safetensors"


def test_the_edition_of_the_paper_goes_first_and_files_do_not_mix(tmp_path):
    place(tmp_path, "Books.csv", EDITIONS["Books.csv"])
    assert AmazonBook(tmp_path).raw_file_names == ["Books.csv"]
    place(tmp_path, "ratings_Books.csv", EDITIONS["ratings_Books.csv"])
    assert AmazonBook(tmp_path).raw_file_names == ["ratings_Books.csv"]
    assert len([*(tmp_path / "amazon-book" / "processed").iterdir()]) == 2


def test_without_a_file_the_error_says_what_to_get_and_where_it_goes(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        AmazonBook(tmp_path)
    message = str(error.value)
    assert "ratings_Books.csv is not here" in message
    assert "https://jmcauley.ucsd.edu/data/amazon/" in message
    assert str(tmp_path / "amazon-book" / "raw") in message
    assert "Books.jsonl.gz" in message


ROW = "A0READER,0000000001,5.0,1\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("Books.csv", EDITIONS["ratings_Books.csv"], "item 'A00READER0Z' is no ASIN"),
        ("ratings_Books.csv", ROW + "A,0000000001,5.0\n", ":2: 3 fields, expected 4"),
        (
            "ratings_Books.csv",
            ROW + ROW.replace("5.0", "five"),
            ":2: column 'rating' is",
        ),
        (
            "ratings_Books.csv",
            ROW + ROW.replace(",1\n", ",x\n"),
            ":2: column 'time' is",
        ),
        ("ratings_Books.csv", ROW, "KCore(k=10) leaves no interactions"),
        ("Books.json", "{'overall': f()}\n", "Books.json:1: does not parse"),
        ("Books.json", "{'a': 1}\n", "Books.json:1: no column 'reviewerID'"),
        ("Books.json", "{'a', 1}\n", "Books.json:1: expected a JSON object"),
        ("Books.json", "{'a': [[]: 1]}\n", "Books.json:1: does not parse"),
        ("Books.jsonl", "{'rating': 1}\n", "Books.jsonl:1: does not parse"),
        ("Books.jsonl", "{}\n", "Books.jsonl:1: no column 'user_id'"),
    ],
)
def test_bad_files_are_refused_and_nothing_is_written(tmp_path, name, content, message):
    place(tmp_path, name, content)
    with pytest.raises(ValueError, match=name) as error:
        AmazonBook(tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "amazon-book" / "processed").exists()
