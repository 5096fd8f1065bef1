"""``python -m ddrm_pyg``: the command line, where launchers need a module."""

from __future__ import annotations

import sys

from ddrm_pyg.cli import main

if __name__ == "__main__":
    sys.exit(main())
