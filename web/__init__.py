"""The page, its API, liveness, readiness and metrics."""
