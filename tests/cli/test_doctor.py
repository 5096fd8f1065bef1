"""What this installation can do."""

from __future__ import annotations

import json
from configparser import ConfigParser
from pathlib import Path

import torch

import ddrm_pyg
from ddrm_pyg.cli.doctor import EXTRAS
from ddrm_pyg.experiments.methods import each_once


def test_doctor_prints_what_a_bug_report_needs(call):
    answer = call("doctor")
    assert answer.code == 0
    assert answer.err == ""
    lines = answer.out.splitlines()
    names = [f"memory to train {name}" for name in each_once()]
    width = max(map(len, names)) + 2
    assert {line[width - 2 : width] for line in lines} == {"  "}
    shown = {line[:width].strip(): line[width:] for line in lines}
    assert {*names} < shown.keys()
    sizes = "2,000 users, 1,500 items, 80,000 train interactions"
    assert shown["memory is for"] == sizes
    assert shown["ddrm_pyg"] == ddrm_pyg.__version__
    assert shown["torch"] == torch.__version__
    assert shown["threads"] == str(torch.get_num_threads())
    assert shown["devices"].startswith("cpu")
    assert shown["bf16 on cpu"] in ("True", "False")
    assert shown["memory available"].endswith(" GiB")
    assert shown["extra [sparse]"] in ("installed", "absent")


def test_doctor_estimates_memory_for_given_sizes(call):
    small = json.loads(call("doctor", "--json").out)
    sizes = ["--users", "10000", "--items", "20000", "--interactions", "1000000"]
    large = json.loads(call("doctor", *sizes, "--json").out)
    assert large["memory to train ease"] == "5.2 GiB"  # 14 bytes a pair of items
    assert small["memory to train ease"] == "33 MiB"  # and 512 columns of users
    sizes = ["--users", "10000", "--items", "50000", "--interactions", "1000000"]
    factored = json.loads(call("doctor", *sizes, "--json").out)
    assert factored["memory to train ease"] == "1.3 GiB"  # 1,024 factors
    # what a method starts from has to be trained, too
    assert large["memory to train lightgcn+ddrm"] == large["memory to train lightgcn"]
    assert {f"memory to train {name}" for name in each_once()} < large.keys()
    assert large["memory to rank"].endswith(" MiB")


def test_doctor_knows_every_extra_that_there_is():
    setup = ConfigParser(interpolation=None)
    setup.read(Path(__file__).parents[2] / "setup.cfg", encoding="utf-8")
    assert {*EXTRAS, "test", "dev", "docs"} == {*setup["options.extras_require"]}


def test_doctor_speaks_json(call):
    answer = call("doctor", "--json")
    record = json.loads(answer.out)
    assert record["devices"][0] == "cpu"
    assert record["threads"] >= 1
    assert {"python", "torch-geometric", "cores", "memory available"} <= record.keys()
