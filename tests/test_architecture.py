"""Holds the floors of docs/architecture.md: imports run one way, down."""

import ast
from importlib import import_module
from pathlib import Path

import pytest

import atrous

SOURCE = Path(atrous.__file__).parent
FLOORS = {
    "errors": 1,
    "bands": 2,
    "classes": 2,
    "devices": 2,
    "durations": 2,
    "extras": 2,
    "files": 1,
    "fonts": 1,
    "lazy": 1,
    "parsing": 1,
    "seeds": 1,
    "timing": 1,
    "model_options": 2,
    "run": 2,
    "images": 3,
    "recipe": 3,
    "data": 4,
    "models": 4,
    "doctor": 5,
    "figures": 5,
    "formats": 5,
    "engines": 5,
    "prediction": 6,
    "profile": 6,
    "evaluation": 7,
    "serve": 7,
    "export": 8,
    "report": 8,
    "training": 8,
    "study": 9,
    "cli": 10,
}
FIGURES_NEVER = {"data", "models"}


def list_imports() -> list[tuple[str, str, str]]:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        part = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("atrous."):
                found.append((str(path.relative_to(SOURCE)), part, node.module.split(".")[1]))
    return found


def test_every_part_has_a_floor():
    parts = {path.name.removesuffix(".py") for path in SOURCE.iterdir()}
    assert {part for part in parts if not part.startswith(("_", "py."))} == set(FLOORS)


def test_imports_run_down():
    upward = [
        f"{path} imports {target}"
        for path, part, target in list_imports()
        if part in FLOORS and part != target and FLOORS[target] >= FLOORS[part]
    ]
    assert not upward
    assert not [
        path
        for path, part, target in list_imports()
        if part == "figures" and target in FIGURES_NEVER
    ]


@pytest.mark.parametrize(
    "package", ["atrous", "atrous.data", "atrous.formats", "atrous.images", "atrous.models"]
)
def test_the_names_of_lazy_packages_are_those_that_they_list(package):
    module = import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    assert set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_the_public_names_are_all_there_and_sorted():
    assert sorted(atrous.__all__) == atrous.__all__
    for name in atrous.__all__:
        assert callable(getattr(atrous, name))
        assert getattr(atrous, name).__doc__
