"""An absent package is named with the extra that brings it."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from ddrm_pyg.extras import check_device, import_extra, versions


def test_what_is_there_is_imported():
    assert import_extra("json", "this needs json", "json") is json


def test_what_is_absent_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError) as error:
        import_extra("faiss", "lists need faiss", "ann")
    assert str(error.value) == "lists need faiss: pip install 'ddrm_pyg[ann]'"


def test_a_device_that_holds_no_values_is_refused():
    check_device("cpu")
    for device in ("meta", torch.device("meta")):
        with pytest.raises(ValueError, match=r"'device' must be usable .*'meta'"):
            check_device(device)


def test_versions_are_of_python_and_what_results_depend_on():
    record = versions()
    assert record["python"] == ".".join(map(str, sys.version_info[:3]))
    assert record["torch"] == torch.__version__
    assert {"ddrm_pyg", "torch-geometric", "numpy", "scipy"} <= record.keys()
