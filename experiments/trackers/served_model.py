"""What ``mlflow.pyfunc`` runs to open a registered model; copied into the model, it needs nothing else but satdet."""

import math
from pathlib import Path
from typing import Any

import mlflow
import pandas  # type: ignore[import-untyped]


class FrameDetector(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Detects sources in FITS frames."""

    def load_context(self, context: Any) -> None:
        """Open the exported model that is kept with this code."""
        from satdet.predict import Predictor

        self._predictor = Predictor.load(Path(context.artifacts["model"]))

    def predict(
        self, context: Any, model_input: pandas.DataFrame, params: dict[str, Any] | None = None
    ) -> pandas.DataFrame:
        """Detect in every frame.

        Parameters
        ----------
        context : PythonModelContext
        model_input : DataFrame
            Column ``frame``: paths of FITS files.
        params : dict, optional
            None are known.

        Returns
        -------
        DataFrame
            One row a detection: ``frame``, centre ``x``, ``y`` [px, 1-based], box ``x1`` … ``y2`` [px, edge
            coordinates], ``score``, and ``alpha_j2000``, ``delta_j2000`` [deg], NaN for a frame without coordinates.
        """
        tables = [self._table(str(frame)) for frame in model_input["frame"]]
        return pandas.concat(tables, ignore_index=True)

    def _table(self, frame: str) -> pandas.DataFrame:
        found = self._predictor.predict(Path(frame))
        columns: dict[str, Any] = {"frame": [frame] * len(found), "x": found.centres[:, 0], "y": found.centres[:, 1]}
        columns |= {name: found.boxes[:, place].astype(float) for place, name in enumerate(("x1", "y1", "x2", "y2"))}
        columns["score"] = found.scores.astype(float)
        for place, name in enumerate(("alpha_j2000", "delta_j2000")):
            columns[name] = math.nan if found.sky is None else found.sky[:, place]
        return pandas.DataFrame(columns)


mlflow.models.set_model(FrameDetector())
