"""The command line: the only place that wires the other packages together."""

__version__ = "0.1.0"
