"""Measurements that are too slow for tests; each writes its results under ``benchmarks/results`` or ``docs``."""
