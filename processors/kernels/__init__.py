"""Compiled loops, each with a twin in numpy that gives exactly the same.

A module here holds functions over arrays; each is the compiled one where `make setup` found a C compiler,
and its numpy twin otherwise, or with METERFLOW_KERNELS=off. What is used is settled at import.
"""
