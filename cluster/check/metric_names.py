"""The metrics that there are: ours, and those of Ray's that we look at."""

SATDET_METRICS: dict[str, set[str]] = {
    "satdet_trials": {"search", "status"},
    "satdet_epochs_total": {"search"},
    "satdet_best_metric": {"search", "metric"},
    "satdet_tracker_backlog": {"search", "tracker"},
    "satdet_retries_total": {"search"},
    "satdet_record_seconds_since_last_event": {"search"},
    "satdet_search_info": {"search", "search_id", "version"},
}
"""Names with their labels."""

RAY_METRICS = {
    "ray_node_cpu_count",
    "ray_node_cpu_utilization",
    "ray_node_disk_free",
    "ray_node_disk_usage",
    "ray_node_gpus_available",
    "ray_node_gpus_utilization",
    "ray_node_gram_available",
    "ray_node_gram_used",
    "ray_node_manager_unexpected_worker_failure_total",
    "ray_node_mem_total_host",
    "ray_node_mem_used_host",
    "ray_object_store_memory",
    "ray_placement_groups",
    "ray_resources",
}
"""Of Ray 2.60, exported by its agent on every node."""

PROMETHEUS_METRICS = {"up"}
"""Of Prometheus itself, for everything it asks."""
