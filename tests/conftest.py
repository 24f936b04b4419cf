"""The order of the tests: side by side, a file at a time, what takes minutes must not come last."""

import pytest

LONGEST = (
    "test_strategies", "test_search", "test_chaos", "test_extension", "test_object_search", "test_secrets",
    "test_worker_trials", "test_tracker_faults", "test_workers", "test_storage_faults", "test_listeners",
    "test_cluster_slurm", "test_monitoring", "test_nodes", "test_training", "test_security_files", "test_cluster",
    "test_interrupt", "test_predict", "test_registry", "test_searchers", "test_trackers",
)  # fmt: skip
"""Files, as ``make test`` has measured them; the others take seconds."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file; within one the order stays."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))
