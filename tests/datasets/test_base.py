import hashlib
import io
import zipfile

import pytest
import torch
from torch_geometric.data import HeteroData

from ddrm_pyg.datasets import InteractionDataset
from ddrm_pyg.datasets.base import check_sha256, extract, fetch
from ddrm_pyg.transforms.core import EDGE


def tiny_graph():
    data = HeteroData()
    data["user"].num_nodes = 2
    data["user"].raw_id = ["ann", "bob"]
    data["item"].num_nodes = 3
    data["item"].raw_id = torch.tensor([5, 6, 7])
    data[EDGE].edge_index = torch.tensor([[0, 1], [2, 0]])
    data[EDGE].edge_is_noise = torch.tensor([True, False])
    data[EDGE].in_order = True
    data[EDGE].val_edge_label_index = torch.zeros(2, 0, dtype=torch.long)
    data[EDGE].test_edge_label_index = torch.tensor([[1], [1]])
    return data


class Tiny(InteractionDataset):
    name = "tiny"
    raw_file_names = ("raw.txt",)
    processed_file_names = ("tiny.safetensors",)
    runs = 0
    fail = False

    def download(self):
        with open(self.raw_paths[0], "w") as file:
            file.write("raw")

    def process(self):
        type(self).runs += 1
        if self.fail:
            raise KeyboardInterrupt
        self.save([tiny_graph()], self.processed_paths[0])


@pytest.fixture
def tiny():
    Tiny.runs, Tiny.fail = 0, False
    return Tiny


def test_a_graph_comes_back_as_it_was_stored(tiny, tmp_path):
    data = tiny(tmp_path)[0]
    want = tiny_graph()

    assert data["user"].raw_id == ["ann", "bob"]
    assert (data["user"].num_nodes, data["item"].num_nodes) == (2, 3)
    assert data["item"].raw_id.tolist() == [5, 6, 7]
    assert data[EDGE].in_order is True
    for key, value in want[EDGE].items():
        if key == "in_order":
            continue
        assert torch.equal(data[EDGE][key], value)
        assert data[EDGE][key].dtype == value.dtype
    files = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*.*"))
    assert [str(p) for p in files] == [
        "tiny/processed/tiny.safetensors",
        "tiny/raw/raw.txt",
    ]


def test_processing_happens_once_and_again_when_forced(tiny, tmp_path):
    assert len(tiny(tmp_path)) == 1
    tiny(tmp_path)
    assert tiny.runs == 1
    tiny(tmp_path, force_reload=True)
    assert tiny.runs == 2


def test_the_transform_is_applied_at_each_access(tiny, tmp_path):
    seen = []
    dataset = tiny(tmp_path, transform=lambda data: seen.append(1) or data)
    assert [dataset[0]["user"].num_nodes for _ in range(2)] == [2, 2]
    assert len(seen) == 2


def test_an_interrupted_process_leaves_nothing_to_mistake(tiny, tmp_path):
    tiny.fail = True
    with pytest.raises(KeyboardInterrupt):
        tiny(tmp_path)
    tiny.fail = False
    assert tiny(tmp_path)[0]["item"].num_nodes == 3
    assert tiny.runs == 2


def test_a_damaged_processed_file_is_named(tiny, tmp_path):
    tiny(tmp_path)
    path = tmp_path / "tiny" / "processed" / "tiny.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-4], b"", b"\x80\x04N."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"tiny\.safetensors: damaged .*force_rel"):
            tiny(tmp_path)
    assert tiny(tmp_path, force_reload=True)[0]["user"].num_nodes == 2


def make_zip(**members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return buffer.getvalue()


def test_fetch_keeps_a_file_whose_checksum_holds(tmp_path):
    source = tmp_path / "source.zip"
    source.write_bytes(b"content")
    target = tmp_path / "raw" / "data.zip"
    fetch(source.as_uri(), target, hashlib.sha256(b"content").hexdigest())
    assert target.read_bytes() == b"content"


def test_fetch_refuses_another_checksum_and_leaves_nothing(tmp_path):
    source = tmp_path / "source.zip"
    source.write_bytes(b"content")
    target = tmp_path / "raw" / "data.zip"
    with pytest.raises(ValueError, match=r"sha256 must be 00 \(got ed7002.*7 bytes\)"):
        fetch(source.as_uri(), target, "00")
    assert list((tmp_path / "raw").iterdir()) == []


def test_fetch_without_a_network_says_what_to_place_where(tmp_path):
    target = tmp_path / "raw" / "data.zip"
    url = (tmp_path / "absent.zip").as_uri()
    with pytest.raises(FileNotFoundError) as error:
        fetch(url, target, "00")
    assert "data.zip cannot be downloaded" in str(error.value)
    assert f"get it from {url} and place it in {tmp_path / 'raw'}" in str(error.value)


def test_check_sha256_accepts_the_right_one(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"")
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert check_sha256(path, empty) is None
    with pytest.raises(ValueError, match="0 bytes"):
        check_sha256(path, "00")


def test_extract_unpacks_folders(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(make_zip(ml__ratings="1", ml__sub__x="2"))
    extract(archive, tmp_path / "out")
    assert (tmp_path / "out" / "ml" / "ratings").read_text() == "1"
    assert (tmp_path / "out" / "ml" / "sub" / "x").read_text() == "2"


@pytest.mark.parametrize("name", ["../evil", "ok/../../evil", "/evil"])
def test_extract_refuses_members_that_land_outside_and_writes_nothing(tmp_path, name):
    archive = tmp_path / "a.zip"
    archive.write_bytes(make_zip(**{"good": "1", name: "2"}))
    with pytest.raises(ValueError, match="would land outside"):
        extract(archive, tmp_path / "out")
    assert [p.name for p in tmp_path.rglob("*")] == ["a.zip"]


def test_extract_refuses_a_broken_archive(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(make_zip(a="1")[:-5])
    with pytest.raises(ValueError, match="not a whole zip file"):
        extract(archive, tmp_path / "out")
