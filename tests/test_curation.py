"""Suggestions for the curator: each measurable defect is found on frames that have it and not on others; the page."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from satdet.config import ConfigError
from satdet.curation import __main__ as command
from satdet.curation.lines import straight_lines
from satdet.curation.measures import measure_frame
from satdet.curation.review import review_folder
from satdet.curation.sheet import contact_sheet, suggestion_table
from satdet.curation.suggestions import SuggestionRule, suggest
from satdet.data.labels import read_curation, read_labels
from satdet.simulate import simulate_survey
from satdet.simulate.camera import expose
from satdet.simulate.conditions import draw_conditions
from satdet.simulate.scene import draw_scene

SIZE = 1024
NO_BOXES = np.empty((0, 4), np.float32)


def frame_with(*labels: str, seed: int):
    """Pixels in noise units, level of saturation in the same, and boxes on the stars, of a frame with those labels."""
    sky = dataclasses.replace(draw_conditions(seed, 0, SIZE), labels=labels, richness=0.7)
    rng = np.random.default_rng(seed)
    scene = np.zeros((SIZE, SIZE), np.float32)
    stars = draw_scene(scene, sky, rng)
    counts = expose(scene, sky, rng).astype(np.float32)
    bright = stars.flux > 3 * sky.limiting_flux
    middle = np.stack([stars.x[bright], stars.y[bright]], axis=1) + 0.5
    middle = middle[((middle > 0) & (middle < SIZE)).all(axis=1)]
    boxes = np.concatenate([middle - 6, middle + 6], axis=1).astype(np.float32)
    level = float(np.median(counts))
    return (counts - level) / np.float32(sky.noise), (sky.saturation - level) / sky.noise, boxes


def suggested(*labels: str, seed: int, rule: SuggestionRule | None = None, shift: float = 0.0) -> set[str]:
    signal, saturation, boxes = frame_with(*labels, seed=seed)
    found = measure_frame(signal, saturation, boxes + np.float32(shift))
    return {each.label for each in suggest(found, rule or SuggestionRule())}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("TRACE", {"TRACE"}),
        ("AMPLIFIER", {"AMPLIFIER"}),
        ("GRADIENT", {"GRADIENT", "LIGHT"}),  # a slope that is not quite a plane may be taken for stray light
        ("LIGHT", {"GRADIENT", "LIGHT"}),
    ],
)
def test_a_defect_is_suggested(label, expected, seed):
    assert suggested(label, seed=seed) - {"ESO"} & expected


@pytest.mark.parametrize("seed", range(4))
def test_nothing_is_suggested_for_a_frame_without_defects(seed):
    assert not suggested("OK", seed=seed) - {"ESO"}  # any frame may have a few bleeding stars


def test_saturation_is_counted_and_judged_by_the_rule():
    signal = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    signal[40:100, 80:83] = 500
    found = measure_frame(signal, 400.0, NO_BOXES)
    assert (found.saturated, found.longest_bleed) == (180, 60)
    assert "ESO" in {each.label for each in suggest(found, SuggestionRule(saturated=180, bleed=60))}
    assert "ESO" not in {each.label for each in suggest(found, SuggestionRule(saturated=180, bleed=61))}
    assert "ESO" not in {each.label for each in suggest(found, SuggestionRule(saturated=181, bleed=60))}
    assert measure_frame(signal, None, NO_BOXES).saturated == 0


@pytest.mark.parametrize("angle", [0, 17, 45, 90, 133])
def test_the_ends_of_a_line_are_where_it_leaves_the_frame(angle):
    height, width = 400, 520
    rows, columns = np.mgrid[:height, :width] + 0.5
    direction = np.radians(angle)
    across = (rows - 180) * np.cos(direction) - (columns - 300) * np.sin(direction)
    noise = np.random.default_rng(angle).normal(size=(height, width))
    found = straight_lines((noise + 12 * np.exp(-0.5 * (across / 1.5) ** 2)).astype(np.float32))
    assert found.bright > 0.9 > 0.5 > found.dark
    x1, y1, x2, y2 = found.ends
    for x, y in ((x1, y1), (x2, y2)):
        assert abs((y - 180) * np.cos(direction) - (x - 300) * np.sin(direction)) < 8
        assert min(x, y, width - x, height - y) < 8


def test_boxes_that_sit_on_nothing_are_found_and_shown():
    signal, saturation, boxes = frame_with("OK", seed=1)
    assert "CATALOGUE" not in {
        each.label for each in suggest(measure_frame(signal, saturation, boxes), SuggestionRule())
    }
    (moved,) = [
        each
        for each in suggest(measure_frame(signal, saturation, boxes + np.float32(25)), SuggestionRule())
        if each.label == "CATALOGUE"
    ]
    assert len(moved.boxes) > 0.5 * len(boxes)
    assert "sit on nothing" in moved.reason


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_an_empty_or_implausibly_small_catalogue_is_found(share):
    signal, saturation, boxes = frame_with("OK", seed=2)
    found = suggest(measure_frame(signal, saturation, boxes[: int(share * len(boxes))]), SuggestionRule())
    assert "CATALOGUE" in {each.label for each in found}


def test_rules_are_checked():
    with pytest.raises(ConfigError, match=r"SuggestionRule\.line"):
        SuggestionRule(line=1.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four sound frames, one of them labelled by hand, one cut off, one whose catalogue is not one."""
    folder = tmp_path_factory.mktemp("survey")
    frames = simulate_survey(folder, frames=6, seed=3, size=192)
    frames[4].write_bytes(frames[4].read_bytes()[:5000])
    (folder / f"{frames[5].name.removesuffix('.fits.gz')}_trl.dat").write_text("nothing\n")
    names = [frame.name.removesuffix(".fits.gz") for frame in frames]
    (folder / "labels.csv").write_text(f'frame,labels,note\n{names[0]},OK;MINE,"good, really"\n')
    return folder


def test_every_frame_is_reviewed_and_none_is_touched(folder):
    before = {path: path.read_bytes() for path in folder.iterdir()}
    reviews = review_folder(folder, read_curation(folder / "labels.csv"))
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    assert len(reviews) == 6
    assert [review.error is None for review in reviews].count(False) == 1
    assert sum(bool(review.picture) for review in reviews) == 5
    spoilt = reviews[5]
    assert [each.label for each in spoilt.suggestions] == ["CATALOGUE"]
    assert "_trl.dat" in spoilt.suggestions[0].reason


def test_the_page_is_complete_in_itself_and_escapes_what_it_is_given(folder):
    reviews = review_folder(folder, read_curation(folder / "labels.csv"))
    reviews[1] = dataclasses.replace(reviews[1], path="<script>alert(1)</script>", error='"><b>')
    page = contact_sheet("A <survey>", reviews)
    assert page.count("<article") == 6
    assert "<script>alert" not in page
    assert '"><b>' not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/jpeg;base64,") == 5
    assert 'data-other="[&quot;MINE&quot;]"' in page
    assert 'value="good, really"' in page


def test_the_command_writes_suggestions_in_the_form_of_a_label_file(folder, tmp_path, capsys):
    assert command.main([str(folder), "--out", str(tmp_path / "out"), "--workers", "1", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    table = read_labels(tmp_path / "out" / "suggestions.csv")
    assert len(entries) == 6
    wanted = {entry["frame"] for entry in entries if entry["suggestions"] or entry["error"]}
    assert set(table) == wanted
    with (tmp_path / "out" / "suggestions.csv").open() as file:
        assert all(row["note"] for row in csv.DictReader(file))
    assert "<article" in (tmp_path / "out" / "contact-sheet.html").read_text()


def test_a_folder_without_frames_is_one_line(tmp_path, capsys):
    assert command.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 4
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_suggestion_is_an_empty_table():
    assert suggestion_table([]) == "frame,labels,note\n"
