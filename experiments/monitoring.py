"""A search in figures for Prometheus: served on loopback by its driver, read from the live state at each scrape."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import metadata

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from experiments.live import LiveSearch
from experiments.paths import SearchPaths
from experiments.state import SearchState
from experiments.trackers.base import TrackerState
from satdet.errors import UsageError

_LOOPBACK = "127.0.0.1"
_STATUSES = ("pending", "running", "paused", "finished", "stopped", "failed")


class SearchCollector(Collector):
    """Tells what a search is at, anew at each scrape; a scrape reads, and holds the search up by nothing.

    Parameters
    ----------
    live : LiveSearch
        Of whose state a thread other than the driver's reads.
    search : SearchPaths
    trackers : sequence of str
        Names of those that are fed from the record.
    """

    def __init__(self, live: LiveSearch, search: SearchPaths, trackers: Sequence[str]) -> None:
        self._live = live
        self._search = search
        self._trackers = trackers

    def collect(self) -> Iterable[Metric]:
        """The metrics: of the search as such, of its trials, of what was sent to its trackers."""
        if not self._live.state.header:
            return
        yield from self._of_search(self._live.state)
        yield from self._of_trials(self._live.state)
        backlog = GaugeMetricFamily(
            "satdet_tracker_backlog",
            "Events of the record that a tracker was not sent yet",
            labels=["search", "tracker"],
        )
        recorded = self._live.record.events[-1]["n"]
        for name in self._trackers:
            with suppress(OSError):  # of a storage that is away, when the other figures are needed most
                sent = TrackerState.load(self._search.trackers, name).sequence
                backlog.add_metric([self._search.name, name], max(0, recorded - sent))
        yield backlog

    def _of_search(self, state: SearchState) -> Iterable[Metric]:
        info = InfoMetricFamily("satdet_search", "Which search the driver runs, with which version", labels=["search"])
        info.add_metric([self._search.name], {"search_id": state.search_id, "version": metadata.version("satdet")})
        yield info
        silence = GaugeMetricFamily(
            "satdet_record_seconds_since_last_event", "Seconds since anything was recorded", labels=["search"]
        )
        silence.add_metric([self._search.name], max(0.0, time.time() - state.updated_at))
        yield silence

    def _of_trials(self, state: SearchState) -> Iterable[Metric]:
        trials = list(state.trials.values())
        counts = Counter(trial.status for trial in trials)
        statuses = GaugeMetricFamily("satdet_trials", "Trials by status", labels=["search", "status"])
        for status in _STATUSES:
            statuses.add_metric([self._search.name, status], counts[status])
        yield statuses
        epochs = CounterMetricFamily("satdet_epochs", "Epochs that trials have reported", labels=["search"])
        epochs.add_metric(
            [self._search.name], sum(epoch > 0 for trial in trials for epoch, _, _ in list(trial.results))
        )
        yield epochs
        retries = CounterMetricFamily(
            "satdet_retries", "Times that a trial was begun again for a lost process or node", labels=["search"]
        )
        retries.add_metric([self._search.name], sum(len(trial.losses) for trial in trials))
        yield retries
        best = GaugeMetricFamily("satdet_best_metric", "The best value of an objective", labels=["search", "metric"])
        for metric, mode in state.objectives:
            values = [found[metric] for trial in trials if (found := trial.best(metric, mode))]
            if values:
                best.add_metric([self._search.name, metric], max(values) if mode == "max" else min(values))
        yield best


@contextmanager
def metrics_endpoint(port: int, collector: Collector) -> Iterator[None]:
    """Serve what `collector` tells on http://127.0.0.1:<port>/metrics while the context lasts; on port 0 nothing.

    Raises
    ------
    UsageError
        If the port is taken, or not ours to take.
    """
    if port == 0:
        yield
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        server, thread = start_http_server(port, addr=_LOOPBACK, registry=registry)
    except OSError as error:
        raise UsageError(
            f"--metrics-port {port}: cannot listen on {_LOOPBACK}:{port} ({error.strerror}); choose another port"
        ) from None
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def check_port(port: int) -> None:
    """See to it that metrics can be served on `port`, before a search is begun.

    Raises
    ------
    UsageError
        If not.
    """
    with metrics_endpoint(port, _Nothing()):
        pass


class _Nothing(Collector):
    """Of a search that has not begun."""

    def collect(self) -> Iterable[Metric]:
        """No metrics."""
        return ()
