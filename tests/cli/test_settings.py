from __future__ import annotations

import json
import subprocess
import sys

from ddrm_pyg.cli.settings import FOLDER


def test_every_stored_name_is_listed_with_where_it_comes_from(call):
    answer = call("settings", "list")
    assert answer.code == 0
    names = [line.split()[0] for line in answer.out.splitlines()]
    assert names == sorted(path.stem for path in FOLDER.glob("*.json"))
    assert "as published for LightGCN on ML-1M" in answer.out
    listed = json.loads(call("settings", "list", "--json").out)["settings"]
    assert [*listed] == names


def test_what_is_shown_is_what_settings_take(call, tmp_path):
    answer = call("settings", "show", "ddrm_quick")
    assert json.loads(answer.out) == json.loads(
        (FOLDER / "ddrm_quick.json").read_text()
    )
    assert len(call("settings", "show", "ddrm_quick", "--json").out.splitlines()) == 1


def test_unknown_names_are_refused_with_the_nearest(call):
    answer = call("settings", "show", "ddrm_quik")
    assert answer.code == 2
    assert "got 'ddrm_quik'; did you mean 'ddrm_quick'?" in answer.err


def test_settings_do_without_torch():
    program = (
        "import sys\n"
        "from ddrm_pyg.cli import main\n"
        "assert main(['settings', 'list']) == 0\n"
        "assert main(['settings', 'show', 'ddrm_quick']) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
