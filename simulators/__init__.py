"""A simulated park, recordings, replay and conversion of meter exports."""
