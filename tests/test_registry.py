"""The best model of a search in MLflow's registry: loaded by MLflow alone, it finds what our own prediction finds."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from experiments.record import Record
from satdet.config import TrialConfig, flatten, with_values
from satdet.detector import build_detector
from satdet.predict import Predictor
from satdet.simulate import simulate_survey
from satdet.training import files
from satdet.training.export import FORMAT, KIND
from tests.searches import COMPLETED, begin, report, suggest
from tests.test_trackers import Site

CONFIG = with_values(
    TrialConfig(),
    {
        "tiles.size": 64,
        "detector.backbone": "resnet18",
        "detector.weights": "none",
        "detector.proposals_before_nms": 100,
        "detector.proposals_after_nms": 50,
        "detector.score_threshold": 0.0,
    },
)
LOADED_BY_MLFLOW = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/backbone_ablation@best")
found = model.predict(pandas.DataFrame({"frame": [sys.argv[2], sys.argv[2]]}))
import satdet
print(json.dumps({"code": satdet.__file__, "table": found.to_dict("list")}))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    content = {
        "kind": KIND,
        "format": FORMAT,
        "model": build_detector(CONFIG.detector).state_dict(),
        "config": flatten(CONFIG),
        "normalisation": CONFIG.input.normalisation,
    }
    return files.write_model(tmp_path_factory.mktemp("model"), content)


def finished_search(root: Path, model: Path) -> Site:
    site = Site(root)
    with begin(site.search.record) as record:
        worse, better = suggest(record, 0), suggest(record, 1, "resnet34")
        report(record, worse, 1, 0.3, COMPLETED)
        report(record, better, 1, 0.4, COMPLETED)
        record.append("session_end", status="finished")
    for trial in ("t0000", "t0001"):
        site.search.trial(trial).mkdir(parents=True)
        shutil.copyfile(model, site.search.trial(trial) / "model.pt")
    assert site.send()
    return site


def versions(site: Site) -> dict[str, str]:
    """Trial by version of the registered model."""
    client = MlflowClient(site.storage.mlflow_uri)
    return {each.version: each.tags["trial_id"] for each in client.search_model_versions("name = 'backbone_ablation'")}


def test_the_best_model_is_registered_once_and_a_better_one_takes_the_alias(tmp_path, model):
    site = finished_search(tmp_path, model)
    client = MlflowClient(site.storage.mlflow_uri)
    assert site.send()
    assert list(versions(site).values()) == ["t0001"]
    best = client.get_model_version_by_alias("backbone_ablation", "best")
    assert best.run_id == site.mlflow()[1]["t0001"].info.run_id
    with Record(site.search.record) as record:
        record.append("session", host="h", process=2)
        report(record, suggest(record, 2, "resnet50"), 1, 0.5, COMPLETED)
        record.append("session_end", status="finished")
    site.search.trial("t0002").mkdir()
    shutil.copyfile(model, site.search.trial("t0002") / "model.pt")
    assert site.send()
    assert sorted(versions(site).values()) == ["t0001", "t0002"]
    assert client.get_model_version_by_alias("backbone_ablation", "best").tags["trial_id"] == "t0002"


def test_mlflow_alone_loads_it_with_the_code_inside_and_finds_the_same(tmp_path, model):
    site = finished_search(tmp_path / "site", model)
    (frame,) = simulate_survey(tmp_path / "frames", frames=1, seed=2, size=128)
    done = subprocess.run(
        [sys.executable, "-c", LOADED_BY_MLFLOW, site.storage.mlflow_uri, str(frame)],
        cwd=tmp_path, capture_output=True, text=True, timeout=180, check=False,
        env=os.environ | {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    table, own = result["table"], Predictor.load(model, device="cpu").predict(frame)
    assert "registered_model" in result["code"]
    assert len(own) > 5
    assert table["frame"] == [str(frame)] * 2 * len(own)
    half = slice(0, len(own))
    found = np.array([table[name][half] for name in ("x1", "y1", "x2", "y2")]).T
    np.testing.assert_allclose(found, own.boxes, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(table["score"][half], own.scores, atol=1e-5)
    np.testing.assert_allclose(table["alpha_j2000"][half], own.sky[:, 0], atol=1e-7)
    np.testing.assert_allclose(table["x"][half], own.centres[:, 0], rtol=1e-5)
    names = {path.name for path in site.storage.mlflow_artifacts.rglob("*") if path.is_file()}
    assert {"served_model.py", "model.pt"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".cloudpickle"))]
