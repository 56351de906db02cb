"""The documents hold what they promise: examples run, links lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_python_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs/python.md").read_text()
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), names)
    output = capsys.readouterr().out
    assert "torch.Size([1, 8, 64, 64])" in output
    assert "torch.Size([1, 8, 97, 65])" in output
    assert "20 files written, 0 images failed" in output
    assert "unexpected: ['fc.weight', 'fc.bias']" in output


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_to_a_file_leads_there(document):
    for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
        if not target.startswith("http"):
            assert (document.parent / target).exists(), target


def test_every_place_in_where_to_look_exists():
    text = (ROOT / "docs/architecture.md").read_text()
    rows = re.findall(r"^\|[^|]+\| `([\w/]+\.py)` \| `(\w+)` \|$", text, flags=re.MULTILINE)
    assert len(rows) > 20
    for path, name in rows:
        source = (ROOT / "src/atrous" / path).read_text()
        assert re.search(rf"^(def|class) {name}\b|^{name} = ", source, flags=re.MULTILINE), path


def test_the_statuses_of_the_server_are_those_of_its_document():
    errors = pytest.importorskip("atrous.serve.errors")
    text = (ROOT / "docs/serve.md").read_text()
    rows = re.findall(r"^\| (\d{3}) \| (.+) \|$", text, flags=re.MULTILINE)
    assert {int(status): meaning for status, meaning in rows} == errors.STATUSES
