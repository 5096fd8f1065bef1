"""One main for all commands: help, refusals in one line, exit status."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer import Abort, Context
from typer.main import get_command

import ddrm_pyg
from ddrm_pyg.cli import COMMANDS, _fail, app, main


def test_no_words_print_the_help(call):
    answer = call()
    assert answer.code == 0
    assert answer.out.startswith("Usage: ddrm-pyg [OPTIONS] COMMAND")
    for command in ("run", "evaluate", "denoise", "recommend", "doctor"):
        assert f"\n  {command} " in answer.out
    assert call("--help") == answer


@pytest.mark.parametrize(
    ("is_terminal", "expected"), [(True, rb"caf\xe9"), (False, "café".encode())]
)
def test_any_id_is_printed_on_an_ascii_terminal(monkeypatch, is_terminal, expected):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, "ascii", write_through=True)
    monkeypatch.setattr(stream, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr("sys.stdout", stream)
    assert main(["--version"]) == 0
    print("café", end="")
    assert raw.getvalue().endswith(expected)
    stream.detach()


def test_version_is_printed_with_or_without_a_command(call):
    for words in (["--version"], ["--version", "doctor"]):
        answer = call(*words)
        assert (answer.code, answer.err) == (0, "")
        assert answer.out == f"ddrm-pyg {ddrm_pyg.__version__}\n"


@pytest.mark.parametrize(
    "command", ["run", "evaluate", "denoise", "recommend", "doctor"]
)
def test_every_command_has_help_and_json(call, command):
    answer = call(command, "--help")
    assert answer.code == 0
    assert f"Usage: ddrm-pyg {command}" in answer.out
    assert "--json" in answer.out


def test_one_process_does_a_command(call, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = call("run", "--out", tmp_path / "out").error
    assert message == "'run' runs in one process (got WORLD_SIZE=2)"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert call("data", "--help").code == 0


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (["rnu"], "No such command 'rnu'. Did you mean 'run'?"),
        (["run", "--dat", "x"], "No such option: --dat"),
        (["run", "--epochs", "0"], "Invalid value for '--epochs'"),
        (["run", "--epochs", "-3"], "Invalid value for '--epochs'"),
        (["run", "--ddrm-epochs", "0"], "Invalid value for '--ddrm-epochs'"),
        (["run", "--epochs", "many"], "Invalid value for '--epochs'"),
        (["run", "--seed", "-1"], "Invalid value for '--seed'"),
        (["run", "--seed", str(2**63)], "Invalid value for '--seed'"),
        (["run", "--out", __file__], "Invalid value for '--out'"),
        (["run", "--device", "tpuu"], "'tpuu' cannot be used"),
        (["run", "--device", "meta"], "'meta' cannot be used"),
        (["evaluate", "--data", "synthetic"], "give '--embeddings', or '--user-emb'"),
        (["denoise"], "Missing option"),
        (["recommend"], "Missing argument"),
        (["recommend", "x", "-k", "0"], "Invalid value for '-k'"),
    ],
)
def test_wrong_words_are_refused_in_one_line(call, wrong, expected):
    answer = call(*wrong)
    assert expected in answer.error
    assert len(answer.err.splitlines()) == 1


def test_unknown_option_is_told_the_nearest(call):
    assert "--data" in call("run", "--dat", "x").error


def test_message_of_several_lines_becomes_one(capsys):
    assert _fail("first\n   second") == 2
    assert capsys.readouterr().err == "ddrm-pyg: error: first second\n"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory, and Python does not say what for"),
        (FileNotFoundError(2, "No such file or directory", "a.txt"), "a.txt: no such"),
        (OSError(28, "No space left on device", "out/b"), "out/b: no space left on"),
        (OSError("all is lost"), "all is lost"),
    ],
)
def test_an_error_of_the_system_names_its_file_first(call, monkeypatch, error, message):
    def fail():
        raise error

    monkeypatch.setattr("ddrm_pyg.cli.doctor.diagnose", fail)
    assert call("doctor").error.startswith(message)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, Abort])
def test_interrupt_is_130(call, monkeypatch, words, tmp_path, interrupt):
    def stop(*_, **__):
        raise interrupt

    monkeypatch.setattr("ddrm_pyg.cli._plug_in.plug_in", stop)
    answer = call(*words, "--out", tmp_path / "run")
    assert answer.code == 130
    assert answer.err.splitlines()[-1] == (
        "ddrm-pyg: interrupted; the same command goes on from here"
    )
    monkeypatch.setattr("ddrm_pyg.cli.doctor.diagnose", stop)
    assert call("doctor").err == "ddrm-pyg: interrupted\n"


@pytest.mark.parametrize("error", [FloatingPointError, PermissionError, ValueError])
def test_what_a_user_can_cause_is_no_traceback(call, monkeypatch, error):
    def fail():
        raise error("this went wrong")

    monkeypatch.setattr("ddrm_pyg.cli.doctor.diagnose", fail)
    assert call("doctor").error == "this went wrong"


def test_bug_is_not_hidden(monkeypatch):
    def fail():
        raise RuntimeError("a bug")

    monkeypatch.setattr("ddrm_pyg.cli.doctor.diagnose", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        main(["doctor"])


def test_words_of_the_process_are_the_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["ddrm-pyg", "doctor"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("python")


def test_torch_waits_for_thread_options():
    code = "import sys, ddrm_pyg.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


HEAVY = {"torch", "numpy", "pandas", "scipy"}


def say_without(heavy, words, cwd=None):
    """Run a command in a process of its own that must not import what is heavy."""
    program = (
        "import sys\n"
        "from ddrm_pyg.cli import main\n"
        f"main({words})\n"
        f"heavy = {heavy} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True
    )
    assert said.returncode == 0, said.stderr
    return said.stderr


@pytest.mark.parametrize(
    "words",
    [
        *([], ["--help"], ["--version"], ["rnu"], ["--bogus"], ["run", "--help"]),
        ["run", "--data", "absent.csv"],
        ["run", "--seed", "-1"],
        ["run", "--backend", "mf2"],
        ["run", "--out", __file__],
        ["run", "--settings", "nonesuch"],
        ["clean", "--data", "synthetic", "--out", "x", "--backend-settings", "mff"],
        ["denoise", "--out", "x", "--data", "synthetic", "--settings", "none.json"],
        ["run", "--out", str(Path(__file__).parent)],
        ["compare", "--out", str(Path(__file__).parent)],
        ["audit", "--out", str(Path(__file__).parent)],
        ["clean", "--data", "synthetic", "--out", "copy", "--drop", "2"],
        ["denoise", "--data", "synthetic", "--embeddings", "absent.npz", "--out", "x"],
        ["evaluate", "--data", "ml-1m", "--user", "u", "--embeddings", __file__],
        ["recommend", "absent"],
        ["export", "absent", "--out", "x"],
        ["export", "--help"],
        ["bulk", "absent", "--weights", "absent", "--out", "x"],
        ["bulk", ".", "--weights", ".", "--out", "x", "--history", "absent.csv"],
        ["shard", "absent.csv", "--out", "x"],
        ["shard", "--embeddings", "absent.safetensors", "--world", "x"],
        ["train", "--world", "absent", "--out", "x"],
        ["train", "--help"],
        ["tune", "--data", "absent.csv"],
        ["reproduce", "table2", "--data", "absent.csv"],
        ["reproduce", "--help"],
        ["data", "clicks.csv"],
        ["data", "describe", "absent.csv"],
        ["data", "--help"],
    ],
)
def test_what_prints_or_refuses_options_imports_no_torch(words):
    say_without(HEAVY, words)


@pytest.mark.parametrize("command", ["run", "compare", "audit", "data describe"])
def test_a_column_that_is_not_there_imports_no_torch(tmp_path, command):
    Path(tmp_path / "clicks.csv").write_text("uid,sku\n1,2\n")
    data = ["clicks.csv"] if command.startswith("data") else ["--data", "clicks.csv"]
    words = [*command.split(), *data, "--user", "nope"]
    said = say_without(HEAVY - {"numpy"}, words, cwd=tmp_path)
    assert said.startswith("ddrm-pyg: error: clicks.csv:1: no column 'nope'")


def test_a_folder_of_other_data_imports_no_torch(finished):
    said = say_without(HEAVY, ["run", "--out", str(finished)])
    assert "another: source.data was" in said
    assert said.endswith("is synthetic; give --overwrite to replace it)\n")


@pytest.mark.parametrize("command", ["recommend", "export"])
def test_a_row_without_vectors_imports_no_torch(finished, tmp_path, command):
    more = ["--history", __file__] if command == "recommend" else ["--out", "x"]
    words = [command, str(finished), "--row", "ease", *more]
    said = say_without(HEAVY, words, cwd=tmp_path)
    assert said.endswith("(got 'ease': it has no vectors)\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run", "--liked-from", "four"],
            "'--liked-from': Input should be a valid number, unable to parse string as "
            "a number (got 'four')",
        ),
        (["run", "--epochs", "0"], "greater than or equal to 1 (got '0')"),
        (["recommend", "x", "-k", "-3"], "greater than or equal to 1 (got '-3')"),
        (["run", "--dta", "x"], "No such option: --dta; did you mean '--data'?"),
        (["run", "--zzz"], "No such option: --zzz"),
    ],
)
def test_a_refused_option_has_its_value_or_its_nearest(call, words, message):
    assert call(*words).error.endswith(message)


def test_the_help_lists_every_command_with_its_own_words(call):
    context = Context(get_command(app()))
    for name in COMMANDS:
        command = context.command.get_command(context, name)
        summary = command.help.partition("\n")[0]
        assert re.search(rf"^  {name} +{re.escape(summary[:30])}", call().out, re.M)
    files = {path.stem for path in Path(ddrm_pyg.cli.__file__).parent.glob("[a-z]*.py")}
    assert set(COMMANDS) == files


def test_a_missing_file_is_named_with_its_neighbour(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ratings.csv").write_text("user,item\n")
    said = call("run", "--data", "rating.csv")
    assert said.error.endswith("clean); did you mean 'ratings.csv'?")
    assert said.err.count("\n") == 1  # nothing is announced of what is not there
    answer = call("evaluate", "--data", "ratings.csv", "--embeddings", "rating.csv")
    assert answer.error == (
        "rating.csv: no such file or directory; did you mean 'ratings.csv'?"
    )
    assert list(Path().iterdir()) == [Path("ratings.csv")]


def test_a_group_called_without_its_command_shows_how(call):
    assert call("data", "clicks.csv").error == (
        "'ddrm-pyg data' must go on with 'describe' or 'convert' (got 'clicks.csv'); "
        "for example: ddrm-pyg data describe clicks.csv"
    )
    assert call("settings", "shwo").error.endswith("did you mean 'show'?")
    for line in call("data", "--help").out.splitlines():
        assert "..." not in line or line.startswith("Usage: ")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["run", "--backend", "lightgnc"],
            "Invalid value for '--backend': 'lightgnc'; did you mean 'lightgcn'? It "
            "must be one of 'mf', 'lightgcn', ",
        ),
        (
            ["run", "--backend", "x"],
            "'--backend': 'x' is not one of 'mf', 'lightgcn', ",
        ),
    ],
)
def test_a_misspelled_value_has_its_nearest_before_all_others(call, words, message):
    assert message in call(*words).error
