# Sourced, on every node of a cluster and before the command that searches on it: who has not got the token is refused.
# A token in RAY_AUTH_TOKEN (Kubernetes) comes before the file. The values below are those of cluster/local/start.sh;
# python -m cluster.check compares them.
# shellcheck shell=bash
export RAY_AUTH_MODE=token
export RAY_AUTH_TOKEN_PATH=${RAY_AUTH_TOKEN_PATH:-$HOME/.config/satdet/ray-token}
export RAY_USAGE_STATS_ENABLED=0
# The autoscaler's own metrics are served to everybody who asks, on all interfaces. No port, no server.
export AUTOSCALER_METRIC_PORT=${AUTOSCALER_METRIC_PORT:--1}
# A node that does not answer for about 16 s counts as lost, and its trials go on elsewhere.
export RAY_health_check_initial_delay_ms=${RAY_health_check_initial_delay_ms:-1000}
export RAY_health_check_period_ms=${RAY_health_check_period_ms:-1000}
export RAY_health_check_timeout_ms=${RAY_health_check_timeout_ms:-3000}
export RAY_health_check_failure_threshold=${RAY_health_check_failure_threshold:-4}
