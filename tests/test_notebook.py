"""docs/quickstart.ipynb runs from top to bottom, in the folder of a clone, and shows what it says."""

import importlib.util

import nbformat
import pytest

from tests.helpers.documented import ROOT


@pytest.fixture(scope="module")
def program():
    """.ci/notebook.py."""
    spec = importlib.util.spec_from_file_location("notebook", ROOT / ".ci" / "notebook.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shown(notebook):
    """(all that it prints, the number of its pictures)."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    return "".join(output.get("text", "") for output in outputs), pictures


def accuracy(printed, measure):
    """In percent, of the line that the notebook ends its judgement with."""
    (line,) = (line for line in printed.splitlines() if line.startswith(f"{measure}: "))
    trained, untrained = (float(word.rstrip("%,")) for word in line.split() if "%" in word)
    return trained, untrained


@pytest.mark.slow
def test_the_notebook_runs(program, tmp_path):
    printed, pictures = shown(program.executed(tmp_path))
    assert pictures == 2
    for measure in ("k-NN", "linear probe"):
        trained, untrained = accuracy(printed, measure)
        assert trained > max(80, untrained + 5), "it has learnt the digits"
    assert "pooled (2, 64)" in printed
    assert "Traceback" not in printed and "change:" not in printed
    assert str(tmp_path) not in printed and str(ROOT) not in printed


def test_the_notebook_is_committed_with_what_it_shows(program):
    notebook = nbformat.read(program.NOTEBOOK, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [output for cell in code for output in cell.outputs if output.output_type == "error"]
    printed, pictures = shown(notebook)
    assert pictures == 2
    assert accuracy(printed, "k-NN")[0] > 80
