"""The report: a page that needs nothing else, LaTeX that is whole, and figures of what the record says."""

import html.parser
import re
import shutil
import subprocess

import pytest

import search_spaces
from experiments.paths import storage_paths
from experiments.record import Record
from experiments.report import main
from experiments.reporting.evidence import Evidence
from experiments.reporting.figures import draw_all
from experiments.reporting.importance import importances
from satdet.config import metric_names
from tests.searches import BY_ASHA, COMPLETED, FAILED


def write(path, name, cells, *, epochs=3, seeds=3, value):
    """A search of that declaration, with a result by `value` for each cell, seed and epoch."""
    experiment = search_spaces.load(name).scaled_down()
    names = metric_names(experiment.base)
    with Record(path) as record:
        record.append(
            "search", version=1, search_id="5ea2c4", declaration=experiment.to_json(), digest=experiment.digest(),
            data={"source": "frames", "digest": "da7a"}, environment={"python": "3.11", "packages": {"torch": "2.14"}},
        )  # fmt: skip
        record.append("session", host="h", process=1, trials=len(cells) * seeds, concurrency=2)
        for number, (cell, seed) in enumerate([(cell, seed) for cell in cells for seed in range(seeds)]):
            trial = f"t{number:04d}"
            record.append("suggested", trial=trial, values=cell, seed=seed)
            record.append("started", trial=trial, workers=1, gpus=1.0)
            for epoch in range(1, epochs + 1):
                metrics = dict.fromkeys(names, 0.5) | {"map_50": value(number, cell, seed, epoch), "loss": 1 / epoch}
                metrics |= {"seconds": 10.0, "seconds_training": 8.0, "seconds_evaluation": 1.0}
                end = decision = None
                if epoch == epochs:
                    end = (COMPLETED, BY_ASHA, COMPLETED)[number % 3]
                    decision = {
                        "action": "stop" if number % 3 == 1 else "go",
                        "rank": 1,
                        "compared": 3,
                        "threshold": 0.5,
                    }
                record.append("result", trial=trial, epoch=epoch, metrics=metrics, end=end, decision=decision)
        record.append("suggested", trial="t9999", values=cells[0], seed=9)
        record.append("started", trial="t9999")
        record.append("ended", trial="t9999", end=FAILED)
        record.append("session_end", status="finished")


BACKBONES = {"resnet18": 0.7, "resnet34": 0.79, "resnet50": 0.80, "resnet101": 0.80}


def of_backbone(number, cell, seed, epoch):
    return BACKBONES[cell["detector.backbone"]] - 0.3 / epoch + 0.004 * seed * (-1) ** number


def point(rate, batch_size):
    return {"optimizer.learning_rate": rate, "training.batch_size": batch_size}


@pytest.fixture
def storage(tmp_path):
    storage = storage_paths(tmp_path / "runs")
    write(
        storage.search("backbone_ablation").record,
        "backbone_ablation",
        [{"detector.backbone": backbone} for backbone in BACKBONES],
        value=lambda number, cell, seed, epoch: (
            BACKBONES[cell["detector.backbone"]] - 0.3 / epoch + 0.004 * seed * (-1) ** number
        ),
    )
    rates = [point(10.0 ** -(2 + k / 4), 4 * (1 + k % 2)) for k in range(12)]
    write(
        storage.search("sweep_asha").record,
        "sweep_asha",
        rates,
        seeds=1,
        value=lambda number, cell, seed, epoch: 0.5 - abs(number - 5) / 20 - 0.1 / epoch,
    )
    picture = storage.search("backbone_ablation").trial("t0008")
    picture.mkdir(parents=True)
    (picture / "detections.png").write_bytes(b"\x89PNG not really")
    return storage


class Page(html.parser.HTMLParser):
    """What a page is made of, and whether every element is closed."""

    VOID = frozenset({"meta", "link", "img", "br", "path", "use"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.uses, self.sources = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        for name in ("href", "xlink:href", "src"):
            if name in values:
                self.sources.append(values[name])
        self.uses += re.findall(r"url\(#([^)]+)\)", " ".join(value or "" for value in values.values()))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


@pytest.fixture
def made(storage, tmp_path, capsys):
    assert main(["--all", "--storage", str(storage.root), "--out", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/out/report.html", f"{tmp_path}/out/report.tex"]
    return tmp_path / "out"


def test_page_needs_nothing_from_anywhere_and_is_well_formed(made):
    text = (made / "report.html").read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    outside = [each for each in page.sources if not each.startswith(("data:", "#"))]
    assert outside == []
    for used in [*page.uses, *(each[1:] for each in page.sources if each.startswith("#"))]:
        assert used in page.ids
    assert "<script" not in text and "default-src 'none'" in text


def test_page_answers_the_question_and_says_how_it_was_asked(made):
    text = (made / "report.html").read_text()
    for said in (
        "Does a smaller ResNet lose map_50?",
        "resnet18 is worse than resnet",
        "cannot be told apart with 3 seeds",
        "1 trial failed and counts in no mean.",
        "Published before", "map_50 0.70 to 0.74",
        "digest da7a", "torch 2.14", "residual bootstrap",
        "Learning curves", "Where the time went", "Decisions of ASHA", "Which hyperparameter mattered", "Slices",
        "All trials at a glance", "Best so far", "What it cost", "Every trial", "The declaration",
        "t0008: detector.backbone=resnet50",
    ):  # fmt: skip
        assert said in text, said
    # The report's own order: backbones before sweeps.
    assert text.index('id="backbone_ablation"') < text.index('id="sweep_asha"')


def test_latex_names_only_what_is_there(made):
    text = (made / "report.tex").read_text()
    named = re.findall(r"\\(?:input|includegraphics\[[^]]*\]){([^}]+)}", text)
    assert len(named) > 10
    for path in named:
        assert (made / path).is_file()
    assert r"\toprule" in (made / "tables" / "backbone_ablation.tex").read_text()
    for environment in ("figure", "table"):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}")
    assert "map_50" not in text.replace(r"map\_50", "")


def test_the_same_record_makes_the_same_page(storage, tmp_path):
    for name in ("one", "other"):
        assert main(["backbone_ablation", "--storage", str(storage.root), "--out", str(tmp_path / name)]) == 0
    assert (tmp_path / "one" / "report.html").read_bytes() == (tmp_path / "other" / "report.html").read_bytes()


def test_a_baseline_is_what_others_are_compared_with(storage, tmp_path):
    flags = ["--storage", str(storage.root), "--out", str(tmp_path / "out"), "--baseline", "resnet18"]
    assert main(["backbone_ablation", *flags]) == 0
    assert "is better than resnet18 by" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which searches? name them, or say --all"),
        (["--all", "x"], "which searches? name them, or say --all"),
        (["nothing"], "no search of that name here"),
        (["backbone_ablation", "sweep_asha", "--baseline", "x"], "--baseline names a cell of one search"),
    ],
)
def test_what_cannot_be_reported_is_said_in_a_line(storage, arguments, said, capsys):
    assert main([*arguments, "--storage", str(storage.root)]) == 2
    assert said in capsys.readouterr().err


def test_curves_are_means_over_seeds_with_their_extremes(storage):
    evidence = Evidence(storage.search("backbone_ablation"))
    (curve,) = [each for each in evidence.curves("map_50") if each.label == "resnet18"]
    assert list(curve.epochs) == [1, 2, 3]
    assert curve.low[2] == pytest.approx(0.6 - 0.004) and curve.high[2] == pytest.approx(0.6 + 0.008)
    assert curve.mean[2] == pytest.approx(0.6 + 0.004 / 3)


def test_time_is_divided_between_training_starting_and_waiting(tmp_path, monkeypatch):
    storage = storage_paths(tmp_path)
    clock = iter(range(0, 10_000, 5))
    monkeypatch.setattr("experiments.record.time.monotonic", lambda: float(next(clock)))
    write(storage.search("backbone_ablation").record, "backbone_ablation", [{"detector.backbone": "resnet18"}], seeds=1,
          value=lambda *_: 0.5)  # fmt: skip
    evidence = Evidence(storage.search("backbone_ablation"))
    spent = evidence.spending()
    whole = evidence.state.seconds * 2
    assert spent.training == 24 and spent.evaluation == 3
    assert spent.training + spent.evaluation + spent.starting + spent.other + spent.waiting >= whole - 15


def test_importance_finds_what_matters_and_says_nothing_of_few_trials(tmp_path):
    storage = storage_paths(tmp_path)
    cells = [point(10.0 ** -(1 + k % 4), (4, 8, 16)[k % 3]) for k in range(24)]
    write(storage.search("sweep_asha").record, "sweep_asha", cells, seeds=1, epochs=1,
          value=lambda number, cell, seed, epoch: -abs(0.01 - cell["optimizer.learning_rate"]))  # fmt: skip
    found = importances(Evidence(storage.search("sweep_asha")).state)
    assert found[0].path == "optimizer.learning_rate" and found[0].mean > 0.9
    assert all(each.low <= each.mean <= each.high for each in found)
    few = Evidence(storage.search("sweep_asha"))
    few.state.trials = dict(list(few.state.trials.items())[:5])
    assert importances(few.state) == []


def test_a_search_that_has_no_result_yet_is_reported_without_figures(tmp_path):
    storage = storage_paths(tmp_path)
    write(storage.search("backbone_ablation").record, "backbone_ablation", [{"detector.backbone": "resnet18"}], seeds=0,
          value=None)  # fmt: skip
    evidence = Evidence(storage.search("backbone_ablation"))
    assert {drawing.name for drawing in draw_all(evidence)} <= {"time"}
    assert main(["backbone_ablation", "--storage", str(tmp_path), "--out", str(tmp_path / "out")]) == 0


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no Chromium is installed here")
def test_a_browser_has_nothing_to_complain_of(made, tmp_path):
    said = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--window-size=900,1400",
         f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND",
         f"--screenshot={tmp_path / 'page.png'}", (made / "report.html").as_uri()],
        text=True, capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert [line for line in said.stderr.splitlines() if "CONSOLE" in line] == []
