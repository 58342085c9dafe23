"""What is freed is given back."""

from __future__ import annotations

import ctypes.util
import subprocess
import sys

import pytest

FREED = """
from pathlib import Path
from meterflow.memory import give_back, spare
spare()
import numpy as np
def resident_kb():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
before_kb = resident_kb()
every = [np.ones(100_000) for _ in range(100)]
del every[:-1]
kept_kb = resident_kb() - before_kb
give_back()
print(kept_kb, resident_kb() - before_kb)
"""


@pytest.mark.skipif(ctypes.util.find_library("c") != "libc.so.6", reason="of glibc")
def test_what_lies_free_below_what_is_used_is_given_back() -> None:
    """80 MB below one array that stays."""
    said = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True).stdout
    kept_kb, left_kb = map(int, said.split())
    assert kept_kb > 70_000
    assert left_kb < 10_000
