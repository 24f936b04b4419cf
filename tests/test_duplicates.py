"""One exposure under several names, or processed several times, against several exposures of one field."""

import bz2
import gzip
import time

import numpy as np
import pytest
from astropy.io import fits

from satdet.config import TilesConfig
from satdet.data.duplicates import Fingerprint, find_duplicates, fingerprint
from satdet.data.frames import Frame, read_frame, to_noise_units
from satdet.data.ingest import prepare
from tests.exposures import PROCESSINGS, expose_field
from tests.surveys import CONFIG, SCALE, states, write_catalogue, write_frame, write_pair

SIZE = 256
THRESHOLD = TilesConfig().duplicate_correlation


def exposure(field: int, number: int, **conditions) -> np.ndarray:
    return expose_field(field, number, SIZE, **conditions)


def print_of(counts) -> Fingerprint:
    counts = np.asarray(counts, dtype=np.float32)
    return fingerprint(counts, to_noise_units(Frame(counts, SCALE), None).pixels)


def correlation(one, other) -> float:
    return float(print_of(one).noise @ print_of(other).noise)


@pytest.mark.parametrize("field", range(6))
def test_processed_again_is_far_above_the_threshold_and_another_exposure_far_below(field):
    first = exposure(field, 1)
    for name, process in PROCESSINGS.items():
        assert correlation(first, process(first)) > THRESHOLD + 0.05, name
    for other in (exposure(field, 2), exposure(field, 3, sky_factor=1.5), exposure(field + 6, 1)):
        assert abs(correlation(first, other)) < THRESHOLD - 0.2


def test_an_exposure_keeps_its_fingerprint_through_lossy_compression(tmp_path):
    counts = exposure(0, 1)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts, fits.Header({"CD1_1": SCALE, "CD2_2": SCALE}))]).writeto(
        tmp_path / "a.fits.fz"
    )
    pixels = read_frame(tmp_path / "a.fits.fz").pixels
    assert not np.array_equal(pixels, counts) and correlation(pixels, counts) > 0.95


def test_the_same_pixels_are_found_whatever_their_name_and_wrapping(tmp_path):
    folder = tmp_path / "in"
    content = write_frame(folder / "c.fits").read_bytes()
    (folder / "b.fits.gz").write_bytes(gzip.compress(content))
    (folder / "d.fits.bz2").write_bytes(bz2.compress(content))
    with fits.open(folder / "c.fits") as hdus:
        image = fits.CompImageHDU(hdus[0].data, hdus[0].header, compression_type="GZIP_2", quantize_level=0)
        fits.HDUList([fits.PrimaryHDU(), image]).writeto(folder / "e.fits.fz")
    for name in "bcde":
        write_catalogue(folder / f"{name}.fits", {})
    write_pair(folder, "a")
    store = prepare(folder, CONFIG, tmp_path / "store")
    duplicates = [entry for entry in store.manifest["frames"] if entry["state"] == "duplicate"]
    assert states(store) == {"a": "used", "b": "used", "c": "duplicate", "d": "duplicate", "e": "duplicate"}
    assert {entry["reason"] for entry in duplicates} == {"the same pixels as b.fits.gz"}
    assert {entry["duplicate_of"] for entry in duplicates} == {"b.fits.gz"}
    assert store.manifest["counts"]["frames"]["duplicate"] == 3


def test_an_exposure_processed_again_is_found(tmp_path):
    folder, first = tmp_path / "in", exposure(1, 1)
    for name, counts in {"a": first, "b": np.round(first / 3), "c": exposure(1, 2)}.items():
        write_pair(folder, name, pixels=counts.astype(np.float32))
    store = prepare(folder, CONFIG, tmp_path / "store")
    assert states(store) == {"a": "used", "b": "duplicate", "c": "used"}
    reason = store.manifest["frames"][1]["reason"]
    assert reason.startswith("the same exposure as a.fits.gz, processed again (correlation of the noise ")
    write_pair(folder, "d", pixels=first)
    kept_apart = TilesConfig(size=64, duplicate_correlation=1.0)
    assert states(prepare(folder, kept_apart, tmp_path / "store")) == {
        "a": "used",
        "b": "used",
        "c": "used",
        "d": "duplicate",
    }


def test_the_one_with_ground_truth_is_kept(tmp_path):
    folder = tmp_path / "in"
    frame = write_frame(folder / "a.fits")
    write_catalogue(frame)
    (folder / "b.fits").write_bytes(frame.read_bytes())
    write_catalogue(folder / "b.fits", {})
    assert states(prepare(folder, CONFIG, tmp_path / "store")) == {"a": "duplicate", "b": "used"}


def test_the_one_with_accepted_labels_is_kept(tmp_path):
    folder = tmp_path / "in"
    frame = write_pair(folder, "a")
    write_catalogue(folder / "b.fits", {})
    (folder / "b.fits.gz").write_bytes(frame.read_bytes())
    (folder / "labels.csv").write_text("frame,labels\na,DUPLICATE\nb,OK\n")
    assert states(prepare(folder, CONFIG, tmp_path / "store")) == {"a": "excluded", "b": "used"}


def test_missing_pixels_are_the_same_whatever_their_bits():
    counts = exposure(2, 1)
    other = counts.copy()
    counts[5, 5] = np.nan
    other[5, 5] = np.array(0x7FC00123, dtype=np.uint32).view(np.float32)
    assert print_of(counts).pixels == print_of(other).pixels != print_of(exposure(2, 1)).pixels


def test_a_thousand_frames_take_a_moment_and_chains_end_at_a_frame_that_is_kept():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(1500, 4096)).astype(np.float32)
    noise[700] = noise[100] + 0.1 * noise[700]
    noise[1400] = noise[700] + 0.1 * noise[1400]
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    prints = [Fingerprint((64, 64), str(number), each) for number, each in enumerate(noise)]
    start = time.process_time()
    found = find_duplicates(prints, range(1500), THRESHOLD)
    assert {position: duplicate.of for position, duplicate in found.items()} == {700: 100, 1400: 100}
    assert find_duplicates(prints, range(1499, -1, -1), THRESHOLD).keys() == {700, 100}
    assert find_duplicates([], [], THRESHOLD) == {}
    assert time.process_time() - start < 5
