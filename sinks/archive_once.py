"""Raw payloads, each once: the same bytes may have come several times."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sinks.archive_columns import ORDER
from sinks.archive_manifest import PAYLOADS


def first_of_each(table: pa.Table) -> pa.Table:
    """The row that came first of each SHA-256, in the order of a file."""
    table = table.sort_by([("received", "ascending"), ("offset", "ascending")])
    codes = table.column("sha256").combine_chunks().dictionary_encode().indices.to_numpy()
    _, first = np.unique(codes, return_index=True)
    return table.take(pa.array(first)).sort_by([(name, "ascending") for name in ORDER[PAYLOADS]])
