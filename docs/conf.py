"""How the documentation is built: ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import shutil
import sys
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

from ddrm_pyg import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))
shutil.rmtree(HERE / "api", ignore_errors=True)  # pages of modules that are gone

project = "ddrm_pyg"
author = "The ddrm_pyg developers"
copyright = author
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "command_line",
    "mathml",
    "methods",
    "shell",
]
exclude_patterns = ["_build", "results.md", "results", "tables", "plots"]

left_out = ["../ddrm_pyg/cli"]  # has a page of its own
if find_spec("fastapi") is None:  # a page that needs ddrm_pyg[serve]
    left_out.append("../ddrm_pyg/serving/app.py")

apidoc_modules = [
    {
        "path": "../ddrm_pyg",
        "destination": "api",
        "exclude_patterns": left_out,
        "separate_modules": True,
        "module_first": True,
    }
]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_use_ivar = True
napoleon_use_rtype = False
add_module_names = False

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

suppress_warnings = ["ref.python"]  # a type's short name may be two modules' own

smartquotes = False  # --out is no dash

html_theme = "furo"
html_math_renderer = "mathml"
html_title = "ddrm_pyg"
html_static_path = ["_static"]
html_css_files = ["tables.css"]


def skip_member(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out fields of named tuples, which their class describes, and imports."""
    if type(obj).__name__ == "_tuplegetter":
        return True
    module = app.env.ref_context.get("py:module") or app.env.temp_data.get(
        "autodoc:module"
    )
    home = getattr(obj, "__module__", None)
    imported = what == "module" and module and home and home != module
    return True if imported else None


def resolve_import(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, child: nodes.TextElement
) -> nodes.Node | None:
    """Lead ``ddrm_pyg.fit`` to where ``fit`` is described."""
    module, _, name = node.get("reftarget", "").rpartition(".")
    if node.get("refdomain") != "py" or not module.startswith(project):
        return None
    try:
        obj = getattr(import_module(module), name)
        target = f"{obj.__module__}.{obj.__qualname__}"
    except (ImportError, AttributeError):
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], target, node, child
    )


def shorten_title(app: Sphinx, docname: str, source: list[str]) -> None:
    """Head a page of the API by what is imported, without the package's own name."""
    if docname.startswith("api/ddrm_pyg."):
        head, rest = source[0].split("\n", 1)
        name = head.rpartition(" ")[0].replace("\\", "")
        source[0] = f"{name.removeprefix('ddrm_pyg.')}\n{rest}"


def index_arguments(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Let a search for an argument of a class lead to the class."""
    if what == "class" and "Args:" in lines:
        arguments = [f"   single: {argument}" for argument in signature(obj).parameters]
        lines[:0] = [".. index::", *arguments, ""]


def setup(app: Sphinx) -> None:
    """Connect them."""
    app.connect("source-read", shorten_title)
    app.connect("autodoc-process-docstring", index_arguments, priority=400)
    app.connect("autodoc-skip-member", skip_member)
    app.connect("missing-reference", resolve_import)
