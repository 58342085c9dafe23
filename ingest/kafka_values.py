"""Values of many records where they lie: in the bytes that Kafka sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


class Values(Sequence[bytes]):
    """n values: value i is ``content[starts[i]:ends[i]]``."""

    __slots__ = ("content", "ends", "starts")

    def __init__(self, content: bytes, starts: Ints, ends: Ints) -> None:
        self.content, self.starts, self.ends = content, starts, ends

    @classmethod
    def of(cls, values: Sequence[bytes]) -> Values:
        """The same values put side by side."""
        ends = np.cumsum(np.fromiter(map(len, values), np.int64, len(values)))
        return cls(b"".join(values), np.concatenate([[0], ends[:-1]]).astype(np.int64)[: len(ends)], ends)

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, which: int) -> bytes: ...

    @overload
    def __getitem__(self, which: slice) -> list[bytes]: ...

    def __getitem__(self, which: int | slice) -> bytes | list[bytes]:
        if isinstance(which, slice):
            return self.some(range(*which.indices(len(self))))
        return self.content[int(self.starts[which]) : int(self.ends[which])]

    @property
    def text(self) -> NDArray[np.uint8]:
        """The content's bytes."""
        return np.frombuffer(self.content or b"\0", np.uint8)

    @property
    def size_bytes(self) -> int:
        """All values together."""
        return int((self.ends - self.starts).sum())

    def some(self, numbers: Iterable[int]) -> list[bytes]:
        """The values of these numbers, each by itself."""
        content, starts, ends = self.content, self.starts.tolist(), self.ends.tolist()
        return [content[starts[i] : ends[i]] for i in numbers]

    def all(self) -> list[bytes]:
        """Each by itself."""
        pairs = zip(self.starts.tolist(), self.ends.tolist(), strict=True)
        return [self.content[start:end] for start, end in pairs]
