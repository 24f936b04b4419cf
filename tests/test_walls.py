"""The rooms and the one way that imports run; and what may be imported before it is needed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {
    "satdet": {"ray", "mlflow", "wandb", "optuna", "experiments", "search_spaces"},
    "search_spaces": {"torch", "ray", "mlflow", "wandb", "optuna", "experiments"},
}


def imports_of(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


@pytest.mark.parametrize("room", FORBIDDEN)
def test_no_file_imports_against_the_way(room):
    files = list((ROOT / room).rglob("*.py"))
    assert len(files) > 5
    for file in files:
        roots = {name.partition(".")[0] for name in imports_of(file)}
        assert not roots & FORBIDDEN[room], file


def test_search_spaces_knows_only_the_configuration_of_satdet():
    for file in (ROOT / "search_spaces").rglob("*.py"):
        inside = {name for name in imports_of(file) if name.startswith("satdet")}
        assert inside <= {"satdet.config"}, file


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--list"], ["backbone_ablation", "--plan", "--smoke"], ["backbone_ablation", "--set", "x=1"]],
)
def test_light_commands_import_nothing_heavy(arguments):
    probe = (
        "import sys; from experiments.run import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'ray', 'mlflow', 'wandb', 'optuna', 'pandas', 'astropy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
