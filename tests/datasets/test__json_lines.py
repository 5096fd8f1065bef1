import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddrm_pyg.datasets._json_lines import read_json_lines
from ddrm_pyg.transforms.core import EDGE

COLUMNS = {"user": "user", "item": "item", "rating": None, "time": None}
IDS = st.one_of(
    st.integers(-9, 2**63 - 1),
    st.text(min_size=1).filter(str.strip),
    st.sampled_from([5, "5", " 5"]),
)


def write(path, records, **options):
    path.write_text("".join(json.dumps(r, **options) + "\n" for r in records))
    return path


@given(
    pairs=st.lists(st.tuples(IDS, IDS, st.integers(1, 5)), min_size=1, max_size=20),
    size=st.integers(1, 200),
    ascii_only=st.booleans(),
)
def test_reading_in_blocks_equals_reading_at_once(
    tmp_path_factory, pairs, size, ascii_only
):
    records = [{"item": i, "x": [1, {}], "user": u, "rating": r} for u, i, r in pairs]
    path = tmp_path_factory.mktemp("json") / "r.jsonl"
    write(path, records, ensure_ascii=ascii_only)
    ids = [{(type(p[i]), str(p[i])) for p in pairs} for i in (0, 1)]
    if any(len({text for _, text in column}) < len(column) for column in ids):
        with pytest.raises(ValueError, match=r"has the number -?[0-9]+ and the text"):
            read_json_lines(path, COLUMNS, size=size).to_data()
        return
    whole = read_json_lines(path, COLUMNS).to_data()
    parts = read_json_lines(path, COLUMNS, size=size).to_data()
    for kind in ("user", "item"):
        assert list(parts[kind].raw_id) == list(whole[kind].raw_id)
    for key, value in whole[EDGE].items():
        assert torch.equal(parts[EDGE][key], value)
    assert len({(u, i) for u, i, _ in pairs}) == len(whole[EDGE].edge_rating)


def test_the_first_record_tells_the_columns(tmp_path):
    path = write(tmp_path / "r.jsonl", [{"user": 1, "item": "a", "timestamp": 5}])
    table = read_json_lines(path, COLUMNS)
    assert table.column_of == {"user": "user", "item": "item", "time": "timestamp"}
    assert table.to_data()[EDGE].edge_time.tolist() == [5]


GOOD = '{"user": 1, "item": 2, "rating": 3}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user": 1', "does not parse, expected one JSON object per line (Expect"),
        ('{"user": 1, "item": 2}', "no column 'rating' (there are 'user', 'item')"),
        ('{"user": 1, "item": 2, "rating": NaN}', "does not parse, expected one JSON"),
        ("[" * 100_000, "does not parse, expected one JSON object per line (maximum"),
        ("7", "expected a JSON object (got '7')"),
        ('{"user": 1, "item": {}, "rating": 3}', "column 'item' is '{}', expected"),
        (GOOD.strip().replace("3", "9" * 5000), "does not parse"),
    ],
)
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_bad_line_is_named(tmp_path, line, message, size):
    path = tmp_path / "r.json"
    path.write_text(f"{GOOD}\n{line}\n{GOOD}")
    with pytest.raises(ValueError, match=r"^r\.json:3: ") as error:
        read_json_lines(path, COLUMNS, size=size)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [1, 1 << 20])
@pytest.mark.parametrize("blank", [" ", "\t", "\u2028", ""])
def test_blank_lines_are_skipped_wherever_they_are(tmp_path, blank, size):
    rows = [f'{{"user": {n}, "item": 1}}' for n in (5, 6)]
    path = tmp_path / "r.jsonl"
    for end in ("", "\n"):
        path.write_text("\n".join([blank, rows[0], blank, rows[1], blank]) + end)
        read = read_json_lines(path, COLUMNS, size=size).to_data()
        assert read["user"].raw_id.tolist() == [5, 6]
    path.write_text(f"{blank}\n{blank}")
    with pytest.raises(ValueError, match=r"r\.jsonl: no rows"):
        read_json_lines(path, COLUMNS, size=size)
