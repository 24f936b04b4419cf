"""Prometheus's view of a search: scraped from a live state as it changes, and from the driver of a real search."""

import socket
import time
import urllib.error
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from experiments.live import LiveSearch
from experiments.monitoring import SearchCollector, metrics_endpoint
from experiments.options import RunOptions, build_parser, options_of
from experiments.paths import storage_paths
from experiments.run import main
from experiments.trackers import TrackerState
from satdet.errors import UsageError
from tests.mlflow_server import free_port
from tests.ports import listeners
from tests.searches import COMPLETED, FAILED, begin, report, suggest
from tests.site import Site
from tests.test_search import DECLARATION

NAMES = {
    "satdet_trials", "satdet_epochs_total", "satdet_best_metric", "satdet_tracker_backlog", "satdet_retries_total",
    "satdet_record_seconds_since_last_event", "satdet_search_info",
}  # fmt: skip
"""Dashboards and alert rules ask for these."""


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Value by name and labels, these in alphabetical order, the search's own left out."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (
            sample.name,
            *(f"{name}={value}" for name, value in sorted(sample.labels.items()) if name != "search"),
        ): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics_follow_the_live_state_and_the_trackers(tmp_path):
    search = storage_paths(tmp_path).search("backbone_ablation")
    port = free_port()
    with begin(search.record) as record:
        live = LiveSearch(record)
        with metrics_endpoint(port, SearchCollector(live, search, ["mlflow", "wandb"])):
            first = scraped(port)
            assert {key[0] for key in first} == NAMES - {"satdet_best_metric"}
            assert first["satdet_tracker_backlog", "tracker=mlflow"] == 2
            assert [key for key in first if key[0] == "satdet_search_info"] == [
                ("satdet_search_info", "search_id=5ea2c4", "version=0.1.0")
            ]
            assert sum(value for key, value in first.items() if key[0] == "satdet_trials") == 0

            best, failed = suggest(record, 0), suggest(record, 1, "resnet34")
            for event in record.events[2:]:
                live.state.apply(event)
            live.note("retried", trial=best, error="node lost")
            seen = len(record.events)
            report(record, best, 1, 0.3)
            report(record, best, 2, 0.2, COMPLETED)
            report(record, failed, 0, 0.0, FAILED)
            for event in record.events[seen:]:
                live.state.apply(event)
            state = TrackerState.load(search.trackers, "mlflow")
            state.sequence = record.events[-1]["n"] - 2
            state.save()
            time.sleep(0.2)
            then = scraped(port)
        with pytest.raises(urllib.error.URLError):
            scraped(port)
    assert {key[0] for key in then} == NAMES
    statuses = {key[1].partition("=")[2]: value for key, value in then.items() if key[0] == "satdet_trials"}
    assert statuses == {"pending": 0, "running": 0, "paused": 0, "finished": 1, "stopped": 0, "failed": 1}
    assert then["satdet_epochs_total",] == 2
    assert then["satdet_retries_total",] == 1
    assert then["satdet_best_metric", "metric=map_50"] == 0.3
    assert then["satdet_tracker_backlog", "tracker=mlflow"] == 2
    assert then["satdet_tracker_backlog", "tracker=wandb"] == record.events[-1]["n"]
    assert 0.2 <= then["satdet_record_seconds_since_last_event",] < 60


def test_metrics_of_a_storage_that_is_away_are_those_that_need_none(tmp_path, monkeypatch):
    search = storage_paths(tmp_path).search("backbone_ablation")

    def gone(*_: object) -> TrackerState:
        raise OSError(116, "Stale file handle")

    monkeypatch.setattr(TrackerState, "load", gone)
    port = free_port()
    with (
        begin(search.record) as record,
        metrics_endpoint(port, SearchCollector(LiveSearch(record), search, ["mlflow"])),
    ):
        assert "satdet_tracker_backlog" not in {key[0] for key in scraped(port)}
        assert ("satdet_epochs_total",) in scraped(port)


def test_a_taken_port_is_one_line_and_nothing_is_begun(tmp_path, capsys):
    (declaration := tmp_path / "tiny.py").write_text(DECLARATION)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        status = main([str(declaration), "--smoke", "--storage", str(tmp_path / "runs"), "--metrics-port", str(port)])
    assert status == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        f"error: --metrics-port {port}: cannot listen on 127.0.0.1:{port} (Address already in use); choose another port"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_that_is_none_is_refused(port):
    with pytest.raises(UsageError, match=f"--metrics-port {port} is not between 0 and 65535"):
        options_of(build_parser().parse_args(["backbone_ablation", "--metrics-port", port]))


def test_without_the_flag_nothing_is_served():
    assert options_of(build_parser().parse_args(["backbone_ablation"])).metrics_port == 0
    assert RunOptions(experiment="backbone_ablation").metrics_port == 0


def test_the_driver_of_a_real_search_is_scraped_while_it_runs(tmp_path):
    site = Site(tmp_path, DECLARATION)
    port = free_port()
    process = site.start("--smoke", "--trials", "1", "--wandb", "off", "--metrics-port", str(port))
    site.wait_for_results(process, 1)
    found = scraped(port)
    addresses = [address for address, used in listeners(process.pid) if used == port]
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert {key[0] for key in found} == NAMES
    assert found["satdet_trials", "status=running"] + found["satdet_trials", "status=finished"] == 1
    assert 1 <= found["satdet_epochs_total",] <= 3
    assert addresses == ["127.0.0.1"]
    (search_id,) = [key[1] for key in found if key[0] == "satdet_search_info"]
    assert search_id == f"search_id={site.summary()['search_id']}"
