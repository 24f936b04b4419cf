"""Several workers of one trial against one: the same losses, metrics, weights, stops; and from N to M of them."""

import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from satdet.config import TrialConfig, with_values
from satdet.data.loading import Share
from satdet.data.store import TileStore
from satdet.errors import ConfigError, LostWorkerError
from satdet.metrics import DetectionMetrics
from satdet.training import (
    BatchProgress,
    Callback,
    Divergence,
    EpochReport,
    Meeting,
    SmallerPasses,
    StopTraining,
    meet,
    train,
)
from tests.tiny import CONFIG, tiny_detectors, tiny_store

SECONDS = 120
_TIMES = {"seconds", "seconds_training", "seconds_evaluation", "images_per_second"}
REAL = with_values(
    TrialConfig(),
    {
        "tiles.size": 32,
        "detector.weights": "none",
        "detector.backbone": "resnet18",
        "detector.rpn_samples": 32,
        "detector.box_samples": 16,
        "detector.proposals_after_nms": 100,
        "detector.max_detections": 20,
        "optimizer.name": "sgd",
        "optimizer.learning_rate": 0.005,
        "training.batch_size": 4,
        "training.epochs": 2,
        "training.patience": None,
        "training.precision": "float32",
    },
)


class StopAtBatch(Callback):
    """Stops in the middle of an epoch, as a speed guard does."""

    def __init__(self, batch: int) -> None:
        self._left = batch

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Count down."""
        self._left -= 1
        if not self._left:
            raise StopTraining("slow_speed_global", f"after {progress.batch} of {progress.images} tiles")


class DieAtBatch(Callback):
    """Kills the process that asks it."""

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Go."""
        if progress.epoch == 3:
            os.kill(os.getpid(), signal.SIGKILL)


class FailAtBatch(Callback):
    """An error in user code."""

    def on_batch_end(self, progress: BatchProgress) -> None:
        """Fail."""
        raise ValueError("a mistake")


def serve(link: Any) -> None:
    """Be one worker after another, as told: in a process of its own, which imports torch but once."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    while (job := link.recv()) is not None:
        try:
            link.send((work(*job), None))
        except Exception as error:
            link.send(([], error))


def work(meeting: Meeting, folder: Path, config: TrialConfig, options: dict[str, Any]) -> list[EpochReport]:
    """Train as one of the workers that meet."""
    options = dict(options)
    callbacks = [make() for make in options.pop("callbacks", ())]
    tiny = options.pop("tiny", None)
    with meet(meeting) as workers, contextlib.ExitStack() as stack:
        if tiny is not None:
            stack.enter_context(tiny_detectors(**tiny))
        return list(
            train(config, TileStore.open(folder / "store"), folder / "trial",
                  seed=7, workers=workers, callbacks=callbacks, **options)
        )  # fmt: skip


class Crew:
    """Processes that train together; who is lost or hangs is replaced for the next job."""

    def __init__(self) -> None:
        self._members: list[tuple[Any, Any]] = []
        self._meetings = 0

    def train(
        self, folder: Path, count: int, config: TrialConfig, **options: Any
    ) -> list[tuple[list[EpochReport], Exception | None]]:
        """The reports and the error of each of `count` workers; neither of one that died or had to be ended.

        Once one has failed the others have ten seconds, as they have from whoever starts workers.
        """
        self._meetings += 1
        meeting = folder / f"meeting-{self._meetings}"
        members = [self._member(rank) for rank in range(count)]
        for rank, (_, link) in enumerate(members):
            link.send((Meeting(rank=rank, count=count, file=meeting, seconds=SECONDS), folder, config, options))
        found: dict[int, Any] = {}
        deadline = time.monotonic() + SECONDS
        while len(found) < count and time.monotonic() < deadline:
            waiting = {link: rank for rank, (_, link) in enumerate(members) if rank not in found}
            for link in multiprocessing.connection.wait(list(waiting), timeout=1.0):
                try:
                    found[waiting[link]] = link.recv()
                except EOFError:
                    found[waiting[link]] = ([], None)
                if found[waiting[link]][0] == []:
                    deadline = min(deadline, time.monotonic() + 10)
        for rank in range(count):
            if found.get(rank, ([], None)) == ([], None):
                self._replace(rank)
        return [found.get(rank, ([], None)) for rank in range(count)]

    def close(self) -> None:
        """End them."""
        for process, _ in self._members:
            process.kill()
            process.join()

    def _member(self, rank: int) -> tuple[Any, Any]:
        while len(self._members) <= rank:
            self._members.append(self._begun())
        return self._members[rank]

    def _replace(self, rank: int) -> None:
        self._members[rank][0].kill()
        self._members[rank] = self._begun()

    def _begun(self) -> tuple[Any, Any]:
        context = multiprocessing.get_context("spawn")
        link, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        return process, link


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    members = Crew()
    yield members
    members.close()


def alone(folder: Path, config: TrialConfig, **options: Any) -> list[EpochReport]:
    """The same in this process."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return list(train(config, TileStore.open(folder / "store"), folder / "trial", seed=7, **options))
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def folders(tmp_path: Path) -> Callable[[str], Path]:
    def make(name: str) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        tiny_store(folder / "store")
        return folder

    return make


def weights(folder: Path, epoch: int) -> dict[str, torch.Tensor]:
    (file,) = (folder / "trial").glob(f"epoch-{epoch:04d}-*.pt")
    content = torch.load(file, weights_only=True)
    model: dict[str, torch.Tensor] = content["learner"]["model"]
    return model


def curve(reports: Sequence[EpochReport], name: str = "loss") -> list[float]:
    return [report.metrics[name] for report in reports]


@pytest.mark.parametrize("workers", [2, 3])
def test_shares_are_the_whole_and_even(workers: int) -> None:
    for length in range(workers, 12):
        parts = [list(range(length))[Share(rank, workers).of(length)] for rank in range(workers)]
        assert [each for part in parts for each in part] == list(range(length))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_two_workers_train_as_one_does(crew: Crew, folders: Callable[[str], Path]) -> None:
    """From scratch: batch norm over all tiles, the same sampled anchors, and evaluation gathered to the last tile."""
    one, two = folders("one"), folders("two")
    expected = alone(one, REAL)
    (reports, error), (others, other_error) = crew.train(two, 2, REAL)
    assert error is None and other_error is None
    assert curve(reports) == pytest.approx(curve(expected), rel=0.03)
    assert curve(reports, "learning_rate") == curve(expected, "learning_rate")
    for mine, theirs in zip(reports, others, strict=True):
        same = mine.metrics.keys() - _TIMES
        assert {name: mine.metrics[name] for name in same} == {name: theirs.metrics[name] for name in same}
    assert (two / "trial" / "model.pt").exists() and (two / "trial" / "detections.png").exists()


def test_a_step_of_two_workers_is_that_of_the_whole_batch(crew: Crew, folders: Callable[[str], Path]) -> None:
    """One step: after it, boxes of almost equal scores change places, and with them what is learnt next."""
    step = with_values(REAL, {"training.epochs": 1, "training.tiles_per_epoch": 4})
    one, two = folders("one"), folders("two")
    loss = curve(alone(one, step))
    ((reports, _), _) = crew.train(two, 2, step)
    assert curve(reports) == pytest.approx(loss, rel=1e-6)
    expected = weights(one, 1)
    for name, value in weights(two, 1).items():
        torch.testing.assert_close(
            value, expected[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_evaluation_of_a_checkpoint_does_not_depend_on_the_number_of_workers(
    crew: Crew, folders: Callable[[str], Path]
) -> None:
    """Nothing is learnt, so that both evaluate the same weights: equal to 1e-6."""
    frozen = with_values(REAL, {"optimizer.learning_rate": 1e-30, "training.epochs": 1, "evaluation.batch_size": 1})
    expected = alone(folders("one"), frozen)[-1].metrics
    (reports, _), _ = crew.train(folders("two"), 2, frozen)
    for name in expected.keys() - _TIMES:
        assert reports[-1].metrics[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name


def test_one_worker_may_go_the_way_of_several(crew: Crew, folders: Callable[[str], Path]) -> None:
    """So that a machine with one GPU can try what several will do."""
    step = with_values(REAL, {"training.epochs": 1, "training.tiles_per_epoch": 4})
    expected = alone(folders("alone"), step)
    ((reports, error),) = crew.train(folders("one"), 1, step)
    assert error is None
    assert curve(reports) == pytest.approx(curve(expected), rel=1e-5)


@pytest.mark.parametrize(
    "values",
    [
        {"training.batch_size": 5, "training.micro_batch_size": 2, "detector.batch_norm": "frozen"},
        {
            "training.batch_size": 3,
            "training.micro_batch_size": 1,
            "detector.batch_norm": "frozen",
            "training.ema_decay": 0.9,
        },
        {"training.tiles_per_epoch": 3},
        {"detector.freezing.mode": "alternating", "detector.freezing.period": 1, "training.sync_batch_norm": False},
        {"detector.version": "v2", "training.tiles_per_epoch": 4},
    ],
)
def test_every_division_of_a_batch_trains(crew: Crew, folders: Callable[[str], Path], values: dict[str, Any]) -> None:
    config = with_values(REAL, values)
    expected = alone(folders("one"), config)
    (reports, error), (_, other_error) = crew.train(folders("two"), 2, config)
    assert error is None and other_error is None
    uneven = {"training.micro_batch_size", "training.sync_batch_norm"} & set(values)
    assert curve(reports)[0] == pytest.approx(curve(expected)[0], rel=0.1 if uneven else 0.01)
    assert len(reports) == 2


def test_a_checkpoint_goes_on_with_another_number_of_workers(crew: Crew, folders: Callable[[str], Path]) -> None:
    folder = folders("two")
    first = crew.train(folder, 2, with_values(CONFIG, {"training.epochs": 1}), tiny={})
    assert [len(reports) for reports, _ in first] == [1, 1]
    with tiny_detectors():
        second = alone(folder, with_values(CONFIG, {"training.epochs": 2}), after_epoch=1)
    third = crew.train(folder, 3, with_values(CONFIG, {"training.epochs": 3}), tiny={}, after_epoch=2)
    assert [report.epoch for report in second] == [2]
    assert [[report.epoch for report in reports] for reports, _ in third] == [[3], [3], [3]]
    assert third[0][0][0].stop_reason == "completed"


def test_all_leave_when_the_leader_stops_in_the_middle_of_an_epoch(crew: Crew, folders: Callable[[str], Path]) -> None:
    found = crew.train(folders("two"), 2, CONFIG, tiny={}, callbacks=[functools.partial(StopAtBatch, 3)])
    for reports, error in found:
        assert error is None
        assert (reports[-1].epoch, reports[-1].stop_reason) == (1, "slow_speed_global")
        assert reports[-1].stop_detail == "after 1 of 4 tiles"


def test_a_loss_that_is_not_finite_ends_all_of_them(crew: Crew, folders: Callable[[str], Path]) -> None:
    config = with_values(REAL, {"optimizer.learning_rate": 1e18})
    for reports, error in crew.train(folders("two"), 2, config, callbacks=[Divergence]):
        assert error is None
        assert reports[-1].stop_reason == "diverged"


def test_a_worker_that_is_lost_is_noticed_by_the_others(crew: Crew, folders: Callable[[str], Path]) -> None:
    folder = folders("two")
    leader, other = crew.train(folder, 2, CONFIG, tiny={}, callbacks=[DieAtBatch])
    assert leader == ([], None)
    assert isinstance(other[1], LostWorkerError)
    assert "epoch-0001" in [path.name[:10] for path in (folder / "trial").glob("epoch-*.pt")]


def test_an_error_of_the_leader_is_its_own(crew: Crew, folders: Callable[[str], Path]) -> None:
    leader, other = crew.train(folders("two"), 2, CONFIG, tiny={}, callbacks=[FailAtBatch])
    assert isinstance(leader[1], ValueError)
    assert other[1] is None or isinstance(other[1], LostWorkerError)


def test_memory_that_does_not_suffice_asks_for_smaller_passes(crew: Crew, folders: Callable[[str], Path]) -> None:
    config = with_values(CONFIG, {"training.on_out_of_memory": "halve_micro_batch", "training.epochs": 1})
    folder = folders("two")
    errors = [error for _, error in crew.train(folder, 2, config, tiny={"most_trained": 1})]
    assert any(isinstance(error, SmallerPasses) and error.args == (2, 1) for error in errors)
    found = crew.train(folder, 2, config, tiny={"most_trained": 1}, micro_batch_size=1)
    assert [reports[-1].stop_reason for reports, _ in found] == ["completed", "completed"]


def test_a_batch_that_is_too_small_is_refused(crew: Crew, folders: Callable[[str], Path]) -> None:
    for _, error in crew.train(folders("three"), 3, with_values(CONFIG, {"training.batch_size": 2}), tiny={}):
        assert isinstance(error, ConfigError) and "2 tiles cannot be divided between 3 workers" in str(error)


def test_metrics_travel_whole() -> None:
    metrics, copy = DetectionMetrics(100), DetectionMetrics(100)
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    truth = {"boxes": boxes[:1], "magnitudes": torch.tensor([18.0]), "pixel_scale": torch.tensor(2e-4)}
    found = {"boxes": boxes, "scores": torch.tensor([0.9, 0.4])}
    metrics.update([found], [truth], shape=(64, 64))
    copy.load_state_dict(metrics.state_dict())
    assert copy.compute() == metrics.compute()
