"""What the verbs of the command line share: kinds of options, and how a mistake is told."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from metering.errors import MeterflowError

F = TypeVar("F", bound=Callable[..., Any])
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)


def reported(command: F) -> F:
    """A user's mistake ends with a message and its exit code, never with a traceback."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except MeterflowError as error:
            click.echo(f"meterflow: {error}", err=True)
            raise SystemExit(error.exit_code) from None
        except BrokenPipeError:  # whoever read our output has gone, and no more of it is to be tried
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"meterflow: {where}{error.strerror or error}", err=True)
            raise SystemExit(1) from None

    return run  # type: ignore[return-value]
