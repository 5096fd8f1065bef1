"""The module is the command line."""

from __future__ import annotations

import subprocess
import sys

import ddrm_pyg


def test_module_is_the_command():
    words = [sys.executable, "-m", "ddrm_pyg"]
    answer = subprocess.run([*words, "--version"], capture_output=True, text=True)
    assert answer.stdout == f"ddrm-pyg {ddrm_pyg.__version__}\n"
    assert subprocess.run([*words, "rnu"], capture_output=True).returncode == 2
