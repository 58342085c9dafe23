"""Dumped chunks by name, as far as their names begin alike: each is asked for when it is taken up."""

from __future__ import annotations

from collections.abc import Iterator, Mapping


class Under(Mapping[str, bytes]):
    """The chunks of a dump whose names are ``kind/NAME``, by NAME."""

    def __init__(self, chunks: Mapping[str, bytes], kind: str) -> None:
        self._chunks, self._prefix = chunks, f"{kind}/"

    def __getitem__(self, name: str) -> bytes:
        return self._chunks[self._prefix + name]

    def __iter__(self) -> Iterator[str]:
        return (n.removeprefix(self._prefix) for n in self._chunks if n.startswith(self._prefix))

    def __len__(self) -> int:
        return sum(1 for _ in self)
