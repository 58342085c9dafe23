"""Readings into results: books, intervals, roll-ups, intensity, alerts; and the worker that runs them."""
