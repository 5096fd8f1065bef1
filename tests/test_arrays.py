import io
import zipfile

import numpy as np
import pytest

from ddrm_pyg import arrays
from ddrm_pyg.arrays import open_npy, read_npz


def npz(path, content, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("a.npy", content)
    return path


def content_of(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def test_arrays_come_back_and_others_are_named(tmp_path):
    table = np.arange(6, dtype=">f4").reshape(2, 3)[:, ::-1]
    np.savez_compressed(tmp_path / "a.npz", a=table, b=np.array(5), c=np.zeros((0, 2)))
    read = read_npz(tmp_path / "a.npz")
    assert read.keys() == {"a", "b", "c"}
    assert np.array_equal(read["a"], table)
    assert read["a"].dtype == table.dtype
    assert read["b"] == 5
    assert read["c"].shape == (0, 2)
    some = read_npz(tmp_path / "a.npz", ["b", "d"])
    assert [name for name, array in some.items() if array is not None] == ["b"]
    np.save(tmp_path / "a.npy", table)
    assert np.array_equal(open_npy(tmp_path / "a.npy"), table)


def test_a_shape_beyond_the_file_is_refused_before_it_is_allocated(
    tmp_path, monkeypatch
):
    def allocate(*arguments, **options):
        raise AssertionError("must not be reached")

    monkeypatch.setattr(np.lib.format, "read_array", allocate)
    honest = content_of(np.zeros(4))
    lying = honest.replace(b"(4,), }      ", b"(4999999,), }")
    assert lying != honest
    with pytest.raises(ValueError, match=r"says \[4999999\] of float64, 39999992 b"):
        read_npz(npz(tmp_path / "a.npz", lying))
    monkeypatch.setattr(arrays, "LARGE", 1 << 16)
    bomb = npz(tmp_path / "b.npz", content_of(np.zeros(1 << 17)))
    with pytest.raises(ValueError, match="unpacks to 1048576 bytes, over 100 times"):
        read_npz(bomb)


def test_bytes_left_over_are_refused(tmp_path):
    pairs = content_of(np.arange(8).reshape(4, 2))
    fewer = pairs.replace(b"(4, 2)", b"(3, 2)")
    with pytest.raises(ValueError, match=r"says \[3, 2\] of int64, 48 b.* has 64"):
        read_npz(npz(tmp_path / "a.npz", fewer))
    for content in (fewer, pairs + b"\0"):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(ValueError, match=r"it says .* bytes, and has 6"):
            open_npy(tmp_path / "a.npy")


def test_objects_are_refused_without_advice_to_run_them(tmp_path):
    harmful = content_of(np.array([{}]), allow_pickle=True)
    (tmp_path / "a.npy").write_bytes(harmful)
    (tmp_path / "b.npy").write_bytes(b"text")
    npz(tmp_path / "a.npz", harmful)
    npz(tmp_path / "b.npz", b"text")
    for read, name in (
        (open_npy, "a.npy"),
        (open_npy, "b.npy"),
        (read_npz, "a.npz"),
        (read_npz, "b.npz"),
    ):
        with pytest.raises(ValueError, match=r"begin|object|magic") as error:
            read(tmp_path / name)
        assert "allow_pickle" not in str(error.value)
