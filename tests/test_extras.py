"""An absent package is named with the extra that brings it."""

from __future__ import annotations

import json
import sys

import pytest

from ddrm_pyg.extras import import_extra


def test_what_is_there_is_imported():
    assert import_extra("json", "this needs json", "json") is json


def test_what_is_absent_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError) as told:
        import_extra("faiss", "lists need faiss", "ann")
    assert str(told.value) == "lists need faiss: pip install 'ddrm_pyg[ann]'"
