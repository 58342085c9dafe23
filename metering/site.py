"""The site file: load it, find its faults, compile it, and its schema. The parts are in site_*.py."""

from __future__ import annotations

from metering.faults import Fault
from metering.site_compile import compile_roster
from metering.site_load import Site, SiteFaults, find_faults, load_site, site_schema

__all__ = ["Fault", "Site", "SiteFaults", "compile_roster", "find_faults", "load_site", "site_schema"]
