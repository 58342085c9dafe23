"""The library of ingest's compiled loops (C sources beside this file); None where it was not built.

What uses one of them has another way without it, slower but the same in what it gives.
"""

from __future__ import annotations

from pathlib import Path

from bus.compiled import opened

LIBRARY = opened(Path(__file__).resolve().parent)
