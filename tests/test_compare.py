"""The comparison: cells over seeds, failures counted, and nothing compared that does not compare."""

import csv
import io
import json

import pytest

from experiments.answer import answer
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


def test_searches_that_measure_other_tiles_are_not_compared(summary):
    trials = [{**trial, "config": {**trial["config"], "evaluation.split": "test"}} for trial in summary["trials"]]
    with pytest.raises(UsageError, match=r"differ in their split: \['validation'\] and \['test'\]"):
        compare([summary, {**summary, "trials": trials}])


BACKBONES = {"resnet18": (0.70, 0.72, 0.74), "resnet34": (0.79, 0.81, 0.82), "resnet50": (0.80, 0.81, 0.83)}


@pytest.fixture
def seeded(summary):
    """Three cells of three seeds, of which one is plainly worse."""
    cells = [
        ({"detector.backbone": backbone}, seed, value, 1.0, "grid")
        for backbone, values in BACKBONES.items()
        for seed, value in enumerate(values)
    ]
    return searched(summary, cells)


def test_a_cell_has_its_interval_and_its_difference_from_the_best(seeded):
    best, second, worst = compare([seeded])
    assert (best.label, second.label, worst.label) == ("resnet50", "resnet34", "resnet18")
    assert best.reference and best.difference is None
    assert best.interval.low < best.mean < best.interval.high
    assert worst.difference.mean == pytest.approx(-0.0933, abs=1e-4)
    assert worst.difference.interval.high < 0 <= second.difference.interval.high
    assert (second.better, worst.better) == (pytest.approx(3.5 / 9), 0.0)


def test_cells_are_compared_with_the_baseline_that_is_named(seeded):
    for name in ("resnet18", "detector.backbone=resnet18"):
        rows = compare([seeded], baseline=name)
        assert [row.label for row in rows if row.reference] == ["resnet18"]
        assert rows[0].difference.interval.low > 0
        assert rows[0].better == 1.0
    assert "minus resnet18 [95 %]" in render([seeded], "table", baseline="resnet18")
    with pytest.raises(UsageError, match=r"--baseline 'resnet' names 0 cells; there are: resnet50, resnet34, resnet18"):
        compare([seeded], baseline="resnet")


def test_a_smaller_loss_is_better(seeded):
    found = {**seeded, "mode": "min", "objectives": [["map_50", "min"]]}
    rows = compare([found])
    assert rows[0].label == "resnet18"
    assert rows[-1].better == 0.0
    assert rows[-1].difference.mean > 0
    assert "resnet34 is worse than resnet18 by 0.0867" in render([found], "table")


def test_the_answer_tells_what_the_numbers_do_and_no_more(seeded, summary):
    said = render([seeded], "table").splitlines()[-1]
    assert said.startswith("resnet50 has map_50 0.8133 [0.7")
    assert "resnet18 is worse than resnet50 by 0.0933 [0.0" in said
    assert said.endswith("resnet34 and resnet50 cannot be told apart with 3 seeds.")
    assert "better" not in said
    assert render([seeded], "table", baseline="resnet18").splitlines()[-1].count("is better than resnet18 by") == 2
    single = render([searched(summary, [({"a": 1}, 0, 0.5, 1.0, "x"), ({"a": 2}, 0, 0.9, 1.0, "x")])], "table")
    assert single.splitlines()[-1] == "2 has map_50 0.9 (1 seed). 1 and 2 cannot be told apart with 1 seed."
    none = searched(summary, [])
    assert answer(compare([none]), "map_50", "max") == "No cell has a result in map_50 yet."
    assert "1 trial failed and counts in no mean." in render([summary], "table")


def test_many_cells_are_counted(summary):
    cells = [
        ({"a": cell}, seed, 0.1 * cell + 0.001 * seed * (cell % 2), 1.0, "x") for cell in range(9) for seed in range(3)
    ]
    said = render([searched(summary, cells)], "table").splitlines()[-1]
    assert "8 others are worse than 8, by 0.099 to 0.8." in said


def test_numbers_to_reckon_with_have_columns_of_their_own(seeded):
    rows = list(csv.DictReader(io.StringIO(render([seeded], "csv"))))
    assert float(rows[2]["minus best"]) == pytest.approx(-0.0933333)
    assert float(rows[2]["minus best low"]) < float(rows[2]["minus best"]) < float(rows[2]["minus best high"]) < 0
    assert rows[0]["minus best"] == ""
    (first, *_) = json.loads(render([seeded], "json"))
    assert first["interval"].keys() == {"low", "high"} and first["difference"] is None


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
    assert not any("[95 %]" in line for line in lines)  # of single seeds nothing is known
    assert lines[0].split()[:2] == ["backbone", "learning_rate"]
    assert ["on it" in line for line in lines[1:4]] == [True, True, False]
    assert lines[2].split()[:2] == ["resnet18", "0.001"]
    assert render([found], "csv").startswith("detector.backbone,optimizer.learning_rate,map_50")
