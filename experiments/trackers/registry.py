"""The best model of a search in MLflow's model registry, in the form that ``mlflow.pyfunc`` loads."""

import tempfile
import warnings
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import satdet

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

ALIAS = "best"
_ARTIFACT = "registered_model"
_CODE = Path(__file__).with_name("served_model.py")
_REQUIREMENTS = (
    "mlflow", "pandas", "numpy", "torch", "torchvision", "astropy", "sep", "scipy", "pyyaml", "rich", "matplotlib",
)  # fmt: skip


def register_best(client: Any, name: str, run_id: str, model: Path, tags: dict[str, str]) -> str:
    """Make the file `model` the newest version of the registered model `name`, with the alias ``best``.

    The version holds the file, the code that opens it and the requirements, so it loads without a copy of this project:
    ``mlflow.pyfunc.load_model("models:/<name>@best").predict(pandas.DataFrame({"frame": [path]}))``. No pickle is in
    it.

    Parameters
    ----------
    client : MlflowClient
    name : str
        Made if the registry does not have it.
    run_id : str
        Of the trial, to whose artifacts the version's files go.
    model : Path
        A ``model.pt``.
    tags : dict
        Of the version.

    Returns
    -------
    str
        The number of the version.
    """
    versions = _versions(client, name, tags)
    if not versions:
        with tempfile.TemporaryDirectory() as folder:
            saved = Path(folder) / _ARTIFACT
            _save(saved, model)
            client.log_artifacts(run_id, str(saved), _ARTIFACT)
        if not client.search_registered_models(f"name = '{name}'"):
            client.create_registered_model(name)
        source = f"{client.get_run(run_id).info.artifact_uri}/{_ARTIFACT}"
        versions = [str(client.create_model_version(name, source, run_id, tags=tags).version)]
    # A request that was given up and yet carried out later has made another.
    for double in versions[1:]:
        client.delete_model_version(name, double)
    client.set_registered_model_alias(name, ALIAS, versions[0])
    return versions[0]


def _versions(client: Any, name: str, tags: dict[str, str]) -> list[str]:
    """Versions of the registered model `name` that were made with `tags`, oldest first."""
    found: list[str] = []
    token = None
    while True:
        page = client.search_model_versions(f"name = '{name}'", page_token=token)
        found += [str(each.version) for each in page if tags.items() <= each.tags.items()]
        token = page.token
        if not token:
            return sorted(found, key=int)


def _save(target: Path, model: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a missing input example, and of MLflow's own types
        import mlflow.pyfunc

        mlflow.pyfunc.save_model(
            target,
            python_model=str(_CODE),
            artifacts={"model": str(model)},
            code_paths=[str(Path(satdet.__file__).parent)],
            pip_requirements=[f"{package}=={metadata.version(package)}" for package in _REQUIREMENTS],
            signature=_signature(),
        )


def _signature() -> "ModelSignature":
    """One row a frame goes in, one row a detection comes out."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    numbers = ("x", "y", "x1", "y1", "x2", "y2", "score")
    sky = [ColSpec("double", name, required=False) for name in ("alpha_j2000", "delta_j2000")]
    outputs = [ColSpec("string", "frame"), *(ColSpec("double", name) for name in numbers), *sky]
    return ModelSignature(inputs=Schema([ColSpec("string", "frame")]), outputs=Schema(outputs))
