"""core/run_files.py is the only door to a run's files: no other module opens, lists, renames or removes one."""

import ast
import functools
from pathlib import Path

import pytest

from repre_jax.core import run_files

PACKAGE = Path(run_files.__file__).resolve().parents[1]
DOOR = "core/run_files.py"
# What has nothing to do with runs; all else goes through the door.
NOT_OF_RUNS = {
    "core/buckets.py": "files of a run in a bucket, for run_files alone",
    "core/access.py": "whether what an error names may be read",
    "core/plain_paths.py": "a link among the temporary files",
    "data/coco/images.py": "COCO's archives and folders of images",
    "data/stores.py": "archives and folders that are prepared",
    "data/conversion.py": "what TFDS has prepared, and what it becomes",
    "data/embedded.py": "prepares a data set, under a lock of its own",
    "data/folder.py": "images in folders",
    "data/identity.py": "the shards of what TFDS has prepared",
    "data/listing.py": "what lies below a folder of images",
    "data/imagenet.py": "ImageNet's archives and folders",
    "data/label_folder.py": "label maps in folders, and the names of their classes",
    "data/locate.py": "what TFDS has prepared",
    "data/parquet.py": "shards of images",
    "data/prepared.py": "what TFDS has prepared",
    "data/record_files.py": "what TFDS has prepared",
    "data/scenes/intact.py": "files of other packages",
    "data/scenes/packages.py": "files of other packages",
    "data/sources.py": "whether a folder of images is there",
    "data/splits.py": "what lies below a folder of images",
    "data/tfrecord.py": "what TFDS has prepared",
    "data/writing.py": "a place for a data set, and a lock beside it",
    "interop/pth.py": "opens members of an archive",
    "report/console.py": "/proc/cpuinfo",
    "report/document.py": "page.css, which lies in this package",
    "running/memory.py": "/proc/meminfo and the container's limits",
    "system/command_line.py": "configs, and /dev/null",
    "system/compile_cache.py": "the compile cache, and /proc/cpuinfo",
    "system/kept_programs.py": "the compile cache",
    "system/huge_pages.py": "a setting of the kernel, and the script that was started",
    "system/process_names.py": "the kernel's id of this boot",
    "system/runtime.py": "/dev/null",
    "system/shipped.py": "where configs/ lie",
    "system/streams.py": "/dev/null",
    "tools/checkup/devices.py": "devices of the machine",
    "tools/checkup/software.py": "requirements.txt of a clone",
    "tools/checkup/storage.py": "data sets, and whether a folder that may not be there yet can be written",
    "tools/doctor.py": "/dev/shm",
    "tools/prepare.py": "what is prepared",
}
OF_PATHS = {
    *("open", "read_text", "read_bytes", "write_text", "write_bytes", "touch", "unlink", "rename", "rmdir", "mkdir"),
    *("glob", "rglob", "iterdir", "walk", "exists", "is_dir", "is_file", "is_symlink", "stat", "lstat"),
    *("symlink_to", "hardlink_to", "chmod", "samefile"),
}
OF_OS = OF_PATHS | {"remove", "replace", "listdir", "scandir", "makedirs", "removedirs", "link", "symlink", "truncate"}
OF_NUMPY = {"load", "save", "savez", "savez_compressed", "savetxt", "loadtxt", "fromfile", "memmap", "open_memmap"}
NAMES = {
    *(run_files.CONFIG, run_files.DATA, run_files.STARTS, run_files.METRICS, run_files.RESULT, run_files.RESULT_BEFORE),
    *(run_files.PAGE, run_files.WANDB, run_files.LOCK, run_files.CHECKPOINTS),
}  # the other folders' names are words that mean something else, too


@functools.cache
def modules():
    """What each file of the package says; parsed once."""
    return {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


@functools.cache
def opened(tree):
    """Calls that open, list, move or remove a file, and imports that could hide one."""
    return [ast.unparse(node) for node in ast.walk(tree) if touches_a_file(node)]


def touches_a_file(call):
    if isinstance(call, ast.ImportFrom):
        return call.module in ("os", "os.path", "shutil", "tempfile")
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return isinstance(call, ast.Call) and ast.unparse(call.func) == "open"
    whose, name = ast.unparse(call.func.value), call.func.attr
    first = ast.unparse(call.args[0]) if call.args else ""
    if whose == "run_files" or first.startswith("io.BytesIO("):
        return False
    if whose in ("shutil", "tempfile"):
        return name != "which"
    if whose in ("os", "os.path"):
        return name in OF_OS | {"isfile", "isdir", "lexists", "getsize"}
    if whose in ("np", "numpy", "np.lib.format"):
        return name in OF_NUMPY and first != "file"  # which is open
    moved = name == "replace" and len(call.args) == 1 and not call.keywords  # str.replace takes two; dataclasses names
    return moved or name in OF_PATHS


def named(tree):
    """Names of a run's files that stand as strings, other than in messages and docstrings."""
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and node.value in NAMES]


def test_no_other_module_opens_files_of_a_run():
    found = {path: opened(tree) for path, tree in modules().items() if path not in (DOOR, *NOT_OF_RUNS)}
    assert {path: calls for path, calls in found.items() if calls} == {}


def test_no_other_module_names_files_of_a_run():
    found = {path: named(tree) for path, tree in modules().items() if path not in (DOOR, *NOT_OF_RUNS)}
    assert {path: names for path, names in found.items() if names} == {}


def test_the_list_of_others_holds_none_too_many():
    trees = modules()
    assert {path for path in NOT_OF_RUNS if path not in trees or not opened(trees[path])} == set()


@pytest.mark.parametrize(
    "call",
    [
        "open(path)", "path.open('a')", "(run / 'x').read_text()", "path.unlink(missing_ok=True)",
        "path.replace(other)", "shutil.rmtree(folder)", "tempfile.mkdtemp()", "os.replace(a, b)", "os.path.exists(a)",
        "any(run.glob('*'))", "np.load(path)", "np.savez(path, **arrays)", "np.lib.format.open_memmap(path)",
        "folder.mkdir(parents=True)", "from shutil import rmtree",
    ],
)  # fmt: skip
def test_the_rule_catches_what_it_forbids(call):
    assert opened(ast.parse(call))


@pytest.mark.parametrize(
    "call",
    [
        "text.replace('a', 'b')", "dataclasses.replace(state, step=1)", "run_files.is_file(path)", "os.getpid()",
        "shutil.which(command)", "Image.open(io.BytesIO(data))", "np.zeros(3)", "schedules.resolve(records=1)",
        "np.savez(file, **arrays)",
    ],
)  # fmt: skip
def test_the_rule_leaves_the_rest_alone(call):
    assert not opened(ast.parse(call))
