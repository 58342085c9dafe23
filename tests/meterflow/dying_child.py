"""``meterflow up`` that dies, as by kill -9, at one moment of putting a site file in force."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import meterflow.site_force as force
from meterflow import service
from meterflow.cli import main
from meterflow.folder import Folder

MOMENTS = {
    "before the record": (service.Service, "_decide", False),
    "behind the record": (service.Service, "_decide", True),
    "before the store is put aside": (Folder, "put_aside", False),
    "behind it": (Folder, "put_aside", True),
    "before the mark": (Folder, "mark_site", False),
    "behind the mark": (Folder, "mark_site", True),
    "before it is forgotten": (force, "drop", False),
}
"""Whose function it is, and whether it dies behind it."""


def dies(owner: Any, name: str, *, behind: bool, armed: Path) -> None:
    """Once ``armed`` is there, calling it ends the process."""
    call: Callable[..., Any] = getattr(owner, name)

    def end() -> None:
        if armed.exists():
            os._exit(9)

    if name == "_decide":

        async def decide(*args: Any) -> Any:
            if not behind:
                end()
            found = await call(*args)
            end()
            return found

        setattr(owner, name, decide)
        return

    def called(*args: Any, **kwargs: Any) -> Any:
        if not behind:
            end()
        found = call(*args, **kwargs)
        end()
        return found

    setattr(owner, name, called)


if __name__ == "__main__":
    moment, armed = sys.argv[1:3]
    owner, name, behind = MOMENTS[moment]
    dies(owner, name, behind=behind, armed=Path(armed))
    sys.argv = ["meterflow", *sys.argv[3:]]
    main()
