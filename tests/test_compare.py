"""The comparison: cells over seeds, failures counted, and nothing compared that does not compare."""

import csv
import io
import json

import pytest

from experiments.compare import FORMATS, compare, main, render
from experiments.paths import storage_paths
from experiments.summary import summarise
from satdet.errors import UsageError
from tests.searches import BY_ASHA, COMPLETED, FAILED, begin, report, suggest


@pytest.fixture
def summary(tmp_path):
    search = storage_paths(tmp_path).search("backbone_ablation")
    with begin(search.record) as record:
        for number, (backbone, seed, best, end) in enumerate(
            [
                ("resnet18", 0, 0.70, COMPLETED),
                ("resnet50", 0, 0.80, COMPLETED),
                ("resnet18", 1, 0.74, COMPLETED),
                ("resnet50", 1, 0.60, BY_ASHA),
                ("resnet34", 0, 0.00, FAILED),
            ]
        ):
            trial = suggest(record, number, backbone, seed)
            report(record, trial, 1, best - 0.1)
            report(record, trial, 2, best, end)
        record.append("session_end", status="finished")
    return summarise(search)


def test_cells_are_means_over_seeds_best_first(summary):
    rows = compare([summary])
    assert rows[0].cell == "detector.backbone=resnet18"
    assert rows[0].mean == pytest.approx(0.72)
    assert rows[0].spread == pytest.approx(0.0283, abs=1e-4)
    assert rows[1].mean == pytest.approx(0.70)
    assert rows[1].outcome == "1 finished, 1 stopped (asha)"
    assert rows[2].outcome == "1 failed (error)"
    assert rows[2].spread is None


@pytest.mark.parametrize("style", FORMATS)
def test_every_format_holds_every_cell(summary, style):
    text = render([summary], style)
    for backbone in ("resnet18", "resnet50", "resnet34"):
        assert backbone in text
    assert "0.7200" in text or "0.72" in text


def test_formats_are_well_formed(summary):
    assert len(json.loads(render([summary], "json"))) == 3
    rows = list(csv.reader(io.StringIO(render([summary], "csv"))))
    assert len(rows) == 4 and len({len(row) for row in rows}) == 1
    latex = render([summary], "latex")
    assert "resnet18" in latex and r"map\_50" in latex and r"\toprule" in latex
    assert render([summary], "html").count("<tr>") == 4


def test_searches_with_other_data_or_objective_are_not_compared(summary):
    with pytest.raises(UsageError, match="differ in their data"):
        compare([summary, {**summary, "data": {"source": "x", "digest": "y"}}])
    with pytest.raises(UsageError, match="differ in their objectives"):
        compare([summary, {**summary, "objectives": [["map", "max"]]}])
    assert len(compare([summary, {**summary, "search": "again"}])) == 6


def test_command_shows_a_search_and_names_the_known_ones(summary, tmp_path, capsys):
    assert main(["backbone_ablation", "--storage", str(tmp_path)]) == 0
    assert "backbone_ablation: finished" in capsys.readouterr().out
    assert main(["other", "--storage", str(tmp_path)]) == 2
    assert "there are: backbone_ablation" in capsys.readouterr().err


def searched(summary, cells):
    """The summary with other trials: values, seed, map_50, images a second, and where the trial came from."""
    base = summary["trials"][0]
    trials = []
    for number, (values, seed, map_50, speed, by) in enumerate(cells):
        best = {**base["best"], "map_50": map_50, "images_per_second": speed}
        trials.append({**base, "id": f"t{number:04d}", "values": values, "config": {**base["config"], **values},
                       "seed": seed, "best": best, "suggested": {"by": by}})  # fmt: skip
    return {**summary, "trials": trials}


def test_the_best_cell_of_each_value_is_shown_by_the_seeds_that_confirm_it(summary):
    small, large = {"detector.backbone": "resnet18"}, {"detector.backbone": "resnet50"}
    rate = "optimizer.learning_rate"
    found = searched(
        summary,
        [
            ({**small, rate: 1e-3}, 0, 0.9, 1.0, "random"),
            ({**small, rate: 1e-4}, 0, 0.5, 1.0, "model"),
            ({**large, rate: 1e-3}, 0, 0.6, 1.0, "random"),
            ({**large, rate: 1e-4}, 0, 0.8, 1.0, "model"),
            ({**small, rate: 1e-3}, 1, 0.7, 1.0, "confirm"),
            ({**small, rate: 1e-3}, 2, 0.6, 1.0, "confirm"),
        ],
    )
    rows = compare([found], by="detector.backbone")
    assert [(row.values["detector.backbone"], row.values[rate], row.mean, row.seeds) for row in rows] == [
        ("resnet50", 1e-4, 0.8, 1), ("resnet18", 1e-3, pytest.approx(0.65), 2),
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"did you mean 'detector.backbone'"):
        compare([found], by="detector.backbon")


def test_columns_are_the_searched_values_and_the_pareto_front_is_marked(summary):
    found = searched(
        summary,
        [
            ({"detector.backbone": "resnet18", "optimizer.learning_rate": 1e-3}, 0, 0.5, 9.0, "random"),
            ({"detector.backbone": "resnet50"}, 0, 0.8, 3.0, "random"),
            ({"detector.backbone": "resnet34"}, 0, 0.4, 2.0, "random"),
        ],
    )
    found |= {"objectives": [["map_50", "max"], ["images_per_second", "max"]], "pareto": ["t0000", "t0001"]}
    lines = render([found], "table").splitlines()[2:]
    assert lines[0].split()[:2] == ["backbone", "learning_rate"]
    assert ["on it" in line for line in lines[1:]] == [True, True, False]
    assert lines[2].split()[:2] == ["resnet18", "0.001"]
    assert render([found], "csv").startswith("detector.backbone,optimizer.learning_rate,map_50")
