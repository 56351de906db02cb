"""`atrous report` from outside: what it prints, its exit codes, its errors as one paragraph."""


def test_it_says_what_it_wrote(atrous, run, tmp_path):
    out = tmp_path / "sub" / "page.html"
    with open(run / "log.jsonl", "a", encoding="utf-8") as log:
        log.write('[1, 2]\n{"no": "kind"}\n{"kind": "tra')
    code, output = atrous("report", run, "--out", out, "--num-images", 1, "--device", "cpu")
    assert code == 0
    assert str(out) in output
    assert "MB)" in output
    assert out.stat().st_size > 10_000


def test_its_errors_are_paragraphs(atrous, run, tmp_path):
    code, output = atrous("report", tmp_path)
    assert (code, "Traceback" in output) == (2, False)
    assert output.startswith("Error: ")
    assert "Give a run folder" in output
    (run / "recipe.toml").write_text("[model\n")
    code, output = atrous("report", run)
    assert code == 2
    assert "is not valid TOML" in output
