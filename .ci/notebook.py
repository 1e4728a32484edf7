"""Runs docs/quickstart.ipynb from top to bottom and keeps what it shows in it: python .ci/notebook.py

It runs in a clone of links in a temporary folder, so that its runs are no one else's; that folder is printed as `...`.
tests/test_notebook.py runs it likewise, and keeps nothing.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
OF_A_CLONE = ("main.py", "configs", "repre_jax")
PASSING = ("created", "modified", "execution")  # metadata that each run makes anew


def executed(folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs. folder: empty; becomes the clone. Raises CellExecutionError where a cell fails."""
    for name in OF_A_CLONE:
        (folder / name).symlink_to(ROOT / name)
    (folder / "docs").mkdir()
    notebook = nbformat.read(shutil.copy(NOTEBOOK, folder / "docs"), as_version=4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(folder / "docs")}}).execute()
    for cell in notebook.cells:
        for name in PASSING:
            cell.metadata.pop(name, None)
        if cell.cell_type == "code":
            cell.outputs = [plain(output, folder) for output in joined(cell.outputs)]
    notebook.metadata.pop("widgets", None)
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def joined(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """What a cell printed in one piece: how often the kernel was asked differs from run to run."""
    found: list[nbformat.NotebookNode] = []
    for output in outputs:
        if found and output.output_type == found[-1].output_type == "stream":
            found[-1].text += output.text
        else:
            found.append(output)
    return found


def plain(output: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Without the paths of this machine."""
    text = json.dumps(output)
    for place in {str(folder), str(folder.resolve()), str(ROOT)}:
        text = text.replace(place, "...")
    text = text.replace(str(Path.home()), "~")
    return nbformat.from_dict(json.loads(text.replace(str(Path(sys.executable)), "python")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        notebook = executed(Path(folder))
    nbformat.write(notebook, NOTEBOOK)
