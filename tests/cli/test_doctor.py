"""What this installation can do."""

from __future__ import annotations

import json

import torch

import ddrm_pyg


def test_doctor_prints_what_a_bug_report_needs(call):
    answer = call("doctor")
    assert answer.code == 0
    assert answer.err == ""
    shown = {line[:20].strip(): line[20:] for line in answer.out.splitlines()}
    assert shown["ddrm_pyg"] == ddrm_pyg.__version__
    assert shown["torch"] == torch.__version__
    assert shown["threads"] == str(torch.get_num_threads())
    assert shown["devices"].startswith("cpu")
    assert shown["bf16 on cpu"] in ("True", "False")
    assert shown["memory available"].endswith(" GiB")
    assert shown["extra [sparse]"] in ("installed", "absent")


def test_doctor_speaks_json(call):
    answer = call("doctor", "--json")
    record = json.loads(answer.out)
    assert record["devices"][0] == "cpu"
    assert record["threads"] >= 1
    assert {"python", "torch-geometric", "cores", "memory available"} <= record.keys()
