"""The simulated survey: its files, its reproducibility, its statistics, and the defects that its labels promise."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import ascii as astropy_ascii
from astropy.io import fits
from astropy.wcs import WCS

from satdet.errors import UsageError
from satdet.simulate import simulate_survey
from satdet.simulate.__main__ import main
from satdet.simulate.conditions import DEFECTS, PIXEL_SCALE, draw_conditions

USABLE = {"OK", "GALAXY", "BINARY"}


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """Sixty small frames with truth; enough for every defect to occur."""
    out = tmp_path_factory.mktemp("survey")
    return simulate_survey(out, frames=60, seed=11, size=192, truth=True)


def labels_of(folder: Path) -> dict[str, set[str]]:
    with (folder / "labels.csv").open(newline="") as file:
        return {row["frame"]: set(row["labels"].split(";")) for row in csv.DictReader(file)}


def stem(frame: Path) -> str:
    return frame.name.removesuffix(".fits.gz")


def catalogue_of(frame: Path):
    return astropy_ascii.read(frame.with_name(f"{stem(frame)}_trl.dat"), format="sextractor")


def frames_with(survey: list[Path], label: str) -> list[Path]:
    labels = labels_of(survey[0].parent)
    return [frame for frame in survey if label in labels[stem(frame)]]


def noise_of(image: np.ndarray) -> float:
    """From differences of neighbours, so that no gradient counts."""
    return 1.4826 * float(np.median(np.abs(np.diff(image, axis=1)))) / np.sqrt(2)


def test_frames_and_catalogues_are_in_the_telescopes_format(survey):
    for frame in survey[:8]:
        with fits.open(frame) as hdus:
            header, image = hdus[0].header, hdus[0].data
        assert image.shape == (192, 192) and image.ndim == 2
        assert {"EXPTIME", "FILTER", "OBJECT", "DATE-OBS", "SATURATE", "GAIN"} <= set(header)
        cd = np.array([[header["CD1_1"], header["CD1_2"]], [header["CD2_1"], header["CD2_2"]]])
        assert np.sqrt(abs(np.linalg.det(cd))) == pytest.approx(0.722 / 3600)
        lines = frame.with_name(f"{stem(frame)}_trl.dat").read_text().splitlines()
        assert [line.split()[2] for line in lines[:14]] == catalogue_of(frame).colnames
        assert not lines[14].startswith("#")
    kinds = {fits.getheader(frame)["BITPIX"] for frame in survey}
    signs = {(np.sign(h["CD1_1"]), np.sign(h["CD2_2"])) for h in map(fits.getheader, survey)}
    assert kinds == {16, -32} and len(signs) == 4


def test_catalogue_columns_are_those_of_the_telescope(survey):
    table = catalogue_of(survey[0])
    assert " ".join(table.colnames) == (
        "X_IMAGE Y_IMAGE ALPHA_J2000 DELTA_J2000 MAG_AUTO MAGERR_AUTO FWHM_WORLD FLUX_RADIUS ELLIPTICITY "
        "THETA_WORLD THETA_J2000 FLAGS MAG_CALIB MAGERR_CALIB"
    )
    world = WCS(fits.getheader(survey[0]), fix=False)
    x, y = world.wcs_world2pix(table["ALPHA_J2000"], table["DELTA_J2000"], 1)
    assert np.allclose(x, table["X_IMAGE"], atol=1e-2) and np.allclose(y, table["Y_IMAGE"], atol=1e-2)


def test_same_seed_gives_the_same_bytes_and_more_frames_extend_a_survey(tmp_path):
    small, large = tmp_path / "small", tmp_path / "large"
    simulate_survey(small, frames=3, seed=5, size=96)
    simulate_survey(large, frames=5, seed=5, size=96)
    for path in small.glob("TJO*"):
        assert path.read_bytes() == (large / path.name).read_bytes(), path.name
    written = {path: path.stat().st_mtime_ns for path in small.glob("TJO*")}
    simulate_survey(small, frames=5, seed=5, size=96)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert sorted(p.name for p in small.iterdir()) == sorted(p.name for p in large.iterdir())
    assert (small / "labels.csv").read_bytes() == (large / "labels.csv").read_bytes()


def test_workers_change_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("satdet.simulate.survey._PIXELS_A_WORKER", 1)
    alone = simulate_survey(tmp_path / "alone", frames=4, seed=5, size=96)
    together = simulate_survey(tmp_path / "together", frames=4, seed=5, size=96, workers=2)
    for first, second in zip(alone, together, strict=True):
        assert first.read_bytes() == second.read_bytes()
        assert catalogue_of(first).pformat() == catalogue_of(second).pformat()


def test_a_complete_survey_is_left_alone(tmp_path):
    simulate_survey(tmp_path, frames=3, seed=5, size=96)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    simulate_survey(tmp_path, frames=2, seed=5, size=96)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_another_seed_gives_another_sky(tmp_path):
    first = simulate_survey(tmp_path / "a", frames=1, seed=0, size=96)[0]
    second = simulate_survey(tmp_path / "b", frames=1, seed=365, size=96)[0]
    assert not np.array_equal(fits.getdata(first), fits.getdata(second))


def test_object_density_and_box_area_are_the_telescopes(tmp_path):
    frames = simulate_survey(tmp_path, frames=24, seed=11)
    labels = labels_of(tmp_path)
    counts, areas = [], []
    for frame in frames:
        table = catalogue_of(frame)
        if not labels[stem(frame)] <= USABLE or len(table) == 0:
            continue
        kept = table[(table["FLAGS"] == 0) & (table["FLUX_RADIUS"] > 0) & (table["FLUX_RADIUS"] < 50000)]
        k = np.where(kept["ELLIPTICITY"] > 0.5, 4.0, 2.0)
        k[kept["MAG_CALIB"] < 14] = 3.0
        counts.append(len(kept))
        areas.append((2 * k * kept["FWHM_WORLD"] / PIXEL_SCALE) ** 2)
    assert len(counts) >= 12
    assert 270 <= np.mean(counts) <= 400
    assert 250 <= np.mean(np.concatenate(areas)) <= 400
    assert np.concatenate(areas).min() > 0


def test_smaller_frames_keep_the_density(survey):
    usable = [frame for frame in survey if labels_of(frame.parent)[stem(frame)] <= {"OK"}]
    density = np.mean([len(catalogue_of(frame)) for frame in usable]) * 1024**2 / 192**2
    assert 250 <= density <= 480


def test_sky_levels_differ_by_orders_of_magnitude(survey):
    levels = [float(np.median(fits.getdata(frame))) for frame in survey]
    assert max(levels) > 100 * max(min(levels), 1)


def test_extraction_finds_the_true_positions(survey):
    errors = []
    for frame in frames_with(survey, "OK"):
        table = catalogue_of(frame)
        if len(table) == 0:
            continue
        truth = np.loadtxt(frame.with_name(f"{stem(frame)}_truth.csv"), delimiter=",", skiprows=1)
        table = table[(table["FLAGS"] == 0) & (table["MAGERR_AUTO"] < 0.03)]
        offsets = np.hypot(truth[:, 0, None] - table["X_IMAGE"], truth[:, 1, None] - table["Y_IMAGE"])
        lonely = (offsets < 12).sum(axis=0) == 1
        errors.append(offsets.min(axis=0)[lonely])
    errors = np.concatenate(errors)
    assert len(errors) > 100
    assert np.median(errors) < 0.05


def test_most_frames_are_ok_and_every_label_occurs():
    drawn = [set(draw_conditions(3, frame, 1024).labels) for frame in range(400)]
    assert 0.74 <= np.mean(["OK" in labels for labels in drawn]) <= 0.86
    assert set().union(*drawn) == {*DEFECTS, *USABLE}
    assert not any("OK" in labels and labels & set(DEFECTS) for labels in drawn)


def test_a_few_frames_have_a_catalogue_without_rows(tmp_path):
    bare = [frame for frame in range(400) if not draw_conditions(3, frame, 96).catalogued]
    assert min(bare) >= 8 and 3 <= len(bare) <= 20
    seed = next(seed for seed in range(200) if not draw_conditions(seed, 8, 96).catalogued)
    frame = simulate_survey(tmp_path, frames=9, seed=seed, size=96)[8]
    lines = frame.with_name(f"{stem(frame)}_trl.dat").read_text().splitlines()
    assert len(lines) == 14 and all(line.startswith("#") for line in lines)
    assert "no ground truth" in (tmp_path / "labels.csv").read_text()


def test_saturated_frames_bleed_along_columns(survey):
    frames = frames_with(survey, "ESO")
    assert frames
    for frame in frames:
        image, header = fits.getdata(frame), fits.getheader(frame)
        tall = np.ptp(np.nonzero((image >= header["SATURATE"]).any(axis=1))[0])
        assert tall > 15
        assert (catalogue_of(frame)["FLAGS"] & 4).any()


def test_gradients_and_amplifier_zones_are_in_the_pixels(survey):
    def zones(frame: Path) -> tuple[float, float]:
        """Step across the amplifiers' borders, and difference of opposite edges, in noise."""
        image = fits.getdata(frame).astype(float)
        left, right, low, high = image[:, 92:96], image[:, 96:100], image[92:96], image[96:100]
        halves = slice(0, 96), slice(96, 192)
        steps = [np.median(right[half]) - np.median(left[half]) for half in halves]
        steps += [np.median(high[:, half]) - np.median(low[:, half]) for half in halves]
        across = np.median(image[:, -16:]) - np.median(image[:, :16]), np.median(image[-16:]) - np.median(image[:16])
        return float(np.abs(steps).max() / noise_of(image)), float(np.hypot(*across) / noise_of(image))

    plain = [zones(frame) for frame in survey if labels_of(frame.parent)[stem(frame)] == {"OK"}]
    assert max(step for step, _ in plain) < 3
    assert min(zones(frame)[0] for frame in frames_with(survey, "AMPLIFIER")) > 3
    assert min(zones(frame)[1] for frame in frames_with(survey, "GRADIENT")) > 10 > max(ramp for _, ramp in plain)


def test_trails_comets_light_and_fringes_add_structure(survey):
    def bright_share(frame: Path) -> float:
        """Share of the pixels more than three sigma above the darkest tenth."""
        image = fits.getdata(frame).astype(float)
        return float(np.mean(image > np.percentile(image, 10) + 4.3 * noise_of(image)))

    usual = np.median([bright_share(frame) for frame in frames_with(survey, "OK")])
    for label in ("TRACE", "COMET", "LIGHT", "FRINGES"):
        frames = frames_with(survey, label)
        assert frames, label
        assert np.median([bright_share(frame) for frame in frames]) > 1.5 * usual, label


def test_an_interrupted_survey_is_completed(tmp_path):
    frames = simulate_survey(tmp_path, frames=3, seed=2, size=96)
    expected = frames[1].read_bytes()
    frames[1].unlink()
    assert simulate_survey(tmp_path, frames=3, seed=2, size=96) == frames
    assert frames[1].read_bytes() == expected


def test_another_survey_is_not_mixed_in(tmp_path):
    simulate_survey(tmp_path, frames=1, seed=2, size=96)
    with pytest.raises(UsageError, match="holds another survey"):
        simulate_survey(tmp_path, frames=1, seed=3, size=96)
    (tmp_path / "survey.json").write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        simulate_survey(tmp_path, frames=1, seed=2, size=96)


@pytest.mark.parametrize("name", ["frames", "seed", "size", "workers"])
def test_numbers_out_of_range_are_refused(tmp_path, name):
    numbers = {"frames": 1, "seed": 0, "size": 96, "workers": 1, name: -1}
    with pytest.raises(UsageError, match=f"{name} = -1"):
        simulate_survey(tmp_path, **numbers)


def test_progress_counts_every_frame(tmp_path):
    seen = []
    simulate_survey(tmp_path, frames=3, seed=0, size=96, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_command_line(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--frames", "2", "--size", "96"]
    assert main([*arguments, "--seed", "1"]) == 0
    assert "2 frames" in capsys.readouterr().out
    assert json.loads((tmp_path / "survey.json").read_text())["frames"] == 2
    assert main([*arguments, "--seed", "9"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "holds another survey" in error
    with pytest.raises(UsageError):
        main([*arguments, "--seed", "9", "--debug"])


def test_a_file_in_the_way_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file" / "survey"), "--frames", "1", "--seed", "1"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from satdet.simulate.__main__ import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'astropy', 'sep', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip().endswith("[]")


def test_a_survey_is_on_disk_before_its_files_have_their_names(tmp_path, monkeypatch):
    synced, named = set(), {}
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor):
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def watched_replace(path, target):
        named[Path(target).name] = path.stat().st_ino in synced
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    frames = simulate_survey(tmp_path / "survey", frames=2, seed=3, size=96)
    assert {"survey.json", "labels.csv", *(frame.name for frame in frames)} <= named.keys()
    assert all(named.values()), named
    assert (tmp_path / "survey").stat().st_ino in synced
