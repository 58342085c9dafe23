"""The library of the log's compiled loops (C sources beside this file); None where it was not built."""

from __future__ import annotations

from bus.compiled import beside, opened

LIBRARY = opened(beside(__file__))
