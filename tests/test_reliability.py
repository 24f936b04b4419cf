"""The table of docs/reliability.md is what the committed results say, and nothing that somebody has typed."""

from benchmarks.reliability import BEGIN, DOCUMENT, END, RESULTS, ROWS, main, table_lines
from tests.site import ROOT


def test_the_document_has_the_table_of_the_committed_results():
    _, _, rest = (ROOT / DOCUMENT).read_text().partition(BEGIN)
    table, _, _ = rest.partition(END)
    assert table.strip().splitlines() == table_lines(ROOT / RESULTS)


def test_a_table_is_replaced_and_what_was_not_measured_says_so(tmp_path, capsys):
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    assert main(["--results", str(tmp_path), "--document", str(document)]) == 0
    lines = document.read_text().splitlines()
    assert lines[:2] == ["before", BEGIN] and lines[-2:] == [END, "after"]
    assert sum("not measured" in line for line in lines) == len(ROWS)
    assert "old" not in lines
