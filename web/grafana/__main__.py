"""``python -m web.grafana``: writes Grafana's provisioning files."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from metering.errors import MeterflowError, Unavailable
from metering.site import compile_roster, load_site
from web.grafana.files import files

PLACE = Path(__file__).with_name("provisioning")


def main(arguments: list[str] | None = None) -> int:
    """Exits with 0, or with 1 or 2 for an error that a person can put right."""
    parser = argparse.ArgumentParser(
        prog="python -m web.grafana", description="Writes Grafana's provisioning files."
    )
    parser.add_argument(
        "--out", type=Path, default=PLACE, help="the folder (default: the one in the package)"
    )
    parser.add_argument(
        "--site",
        type=Path,
        help="a site file: silence is judged by its expect_every, for points never seen, too",
    )
    given = parser.parse_args(arguments)
    try:
        write(given.out, given.site)
    except MeterflowError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return error.exit_code
    return 0


def write(folder: Path, site: Path | None = None) -> None:
    """Writes every file. Raises UsageError for a wrong site file, Unavailable without a folder."""
    roster = None if site is None else compile_roster(load_site(site))
    try:
        for name, text in files(roster).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Unavailable(
            f"cannot write Grafana's files: {error.strerror}",
            where=str(folder),
            hint="Check the folder's rights.",
        ) from error


if __name__ == "__main__":
    sys.exit(main())
