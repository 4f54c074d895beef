"""`python -m quantbench <command>`."""

from __future__ import annotations

from quantbench.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
