"""Every command that a page or a message on data sets advises is typed here, or stands in NOT_HERE with the reason.

So is what tests/test_doc_commands.py runs in place of those that need more than a test has.
"""

import importlib
import importlib.util
import re
import shlex

import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import locate, sources
from repre_jax.system import command_line
from repre_jax.tools import prepare as tool
from tests.helpers import documented
from tests.helpers.documented import pages
from tests.helpers.miniature import CLASSES, picture
from tests.helpers.prepared import Pets, change_info, prepare
from tests.test_docs import ROOT

COMMAND = re.compile(r"(?:python|repre-jax|make|pip|tfds|srun|docker) \S.*")
# Begins with -> why it is not typed here.
NOT_HERE = {
    "pip ": "needs a network",
    "python -m venv": "is followed by pip, which needs a network",
    "srun ": "needs a cluster",
    "make ": "tests/test_docs.py looks for the target; the targets are this suite, the demo and the benchmark",
    "python -m pytest": "is this suite",
    "python -m benchmarks": "tests/test_benchmarks.py runs what measures; tests/test_docs.py looks for the program",
    "python -m repre_jax.tools.figures augmentations": "tests/test_figures.py draws them, of a smaller batch",
    "python -m repre_jax.tools.NAME": "stands for several",
    "python -m repre_jax.tools.doctor": "tests/test_doctor.py starts it",
    "python -m repre_jax.tools.reproduce": "trains for hours; tests/test_reproduction.py runs it, tiny",
}
PROGRAMS = ("python main.py", "python -m repre_jax.tools.export", "repre-jax --help")  # as sentences name them
MAIN = (["repre-jax"], ["python", "main.py"], ["python", "-m", "repre_jax"])
PLACES = {
    "DIR": "pictures",
    "PATH": "pictures",
    "NAME": "mine",
    "photos": "pictures",
    "folder:photos": "folder:pictures",
}


def commands(page):
    """Those of its blocks, what is run for them, and those between backticks."""
    found = [command for block in documented.blocks(page) for command in (*block.commands, *block.runs)]
    plain = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    found += [
        re.split(r";", inner)[0]
        for inner in re.findall(r"`([^`]+)`", re.sub(r"<!--.*?-->", "", plain, flags=re.DOTALL))
    ]
    found = [re.sub(r"^(?:[A-Z_]+=\S+ )+", "", each).strip() for each in found]
    return [each for each in found if COMMAND.fullmatch(each)]


ADVISED = sorted(
    {
        command
        for page in pages(ROOT)
        for command in commands(page)
        if not command.startswith(tuple(NOT_HERE)) and command not in PROGRAMS and "..." not in command
    }
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with what pages speak of: pictures, in the folders of ImageNet's classes."""
    for split in ("train", "val"):
        for name in CLASSES[:2]:
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for number in range(2):
                (folder / f"{name}_{number}.JPEG").write_bytes(picture(number))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    return tmp_path


def test_there_are_commands_of_every_kind():
    assert {shlex.split(command)[2] for command in ADVISED if command.startswith("python -m")} >= {
        f"repre_jax.tools.{name}" for name in ("prepare", "figures", "export", "inspect")
    }
    assert any(command.startswith("python main.py") for command in ADVISED)


@pytest.mark.parametrize("command", ADVISED)
def test_a_command_of_a_page_is_understood(command, here, data_dir, monkeypatch, capsys):
    """Config, keys and values of main.py; the tools are started, and at most miss a run that the page has trained."""
    if ":scenes" in command:  # which are drawn for all tests once, not for each of these commands
        monkeypatch.setenv("TFDS_DATA_DIR", str(data_dir))
    words = [PLACES.get(word, word) for word in shlex.split(command)]
    words = [re.sub(r"=folder:photos$", "=folder:pictures", word) for word in words]
    words = [re.sub(r"=(SEED|SCALE)$", "=1", word) for word in words]
    starts = next((n for n in (1, 2, 3) if words[:n] in MAIN), None)
    if starts:
        of_main = {"--dry-run", "--help"} & {*words}  # which it reads itself
        if words[starts:] != ["--help"]:
            command_line.parse(["main.py", *(word for word in words[starts:] if word not in of_main)])
        return
    assert words[:2] == ["python", "-m"], command
    if any(word.startswith("gs://") for word in words):  # tests/buckets starts them, where there is a bucket
        assert importlib.util.find_spec(words[2])
        return
    status = importlib.import_module(words[2]).main(words[3:])  # argparse would end it by SystemExit
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert status == 0 or (status == 1 and error)


def test_the_imagenet_that_a_message_advises_is_prepared(here, capsys):
    """All but --partial, since these are twelve images."""
    root = here / "my data's"
    with pytest.raises(UserError) as error:
        sources.open_dataset("imagenet2012", str(root))
    command = shlex.split(re.search(r"prepare: +(.*)", str(error.value))[1])
    assert command[:3] == ["python", "-m", "repre_jax.tools.prepare"]
    assert tool.main([*(word.replace("DIR", "pictures") for word in command[3:]), "--partial"]) == 0
    assert len(sources.open_dataset("imagenet2012", str(root)).train) == 4
    trains = shlex.split(capsys.readouterr().out.splitlines()[-1].split("train on it:")[1])
    assert command_line.parse(trains[1:])[0].data.dir == str(root)


class AdvisedPets(Pets):
    """Registered, as TFDS's own are; its records need neither TensorFlow nor a network."""

    name = "advised_pets"


def test_the_way_through_tfds_that_a_message_advises_prepares(here):
    """tfds.builder, as typed, with a data set whose records lie here; it writes what is then read."""
    root = here / "my data's"
    for name, place in (("advised_pets", root), ("advised_pets:1.0.0", here / "other")):
        with pytest.raises(UserError) as error:
            sources.open_dataset(name, str(place))
        lines = str(error.value).splitlines()
        assert "needs it and a network" in lines[1], "marked"
        python, flag, code = shlex.split(lines[2])
        assert (python, flag) == ("python", "-c")
        exec(code, {})
        dataset = sources.open_dataset(name, str(place))
        assert (len(dataset.train), len(dataset.test), dataset.classes) == (20, 6, 2)


def test_what_is_neither_tfrecord_nor_array_record_goes_elsewhere(here):
    """TFDS would take the folder that is there for what it is to write."""
    place = prepare(here / "tfds", AdvisedPets)
    change_info(place, fileFormat="riegeli")
    with pytest.raises(UserError, match="is stored as riegeli") as error:
        sources.open_dataset("advised_pets", str(here / "tfds"))
    exec(shlex.split(str(error.value).splitlines()[3])[2], {})
    out = re.search(r"change: +--config.data.dir=(.*)", str(error.value))[1]
    assert len(sources.open_dataset("advised_pets", out).train) == 20


def test_no_page_or_message_advises_what_needs_apache_beam():
    texts = [page.read_text() for page in pages(ROOT)]
    texts += [locate.how_to_prepare("cifar10", ROOT), locate.tfds_command("cifar10", ROOT)]
    assert not [text for text in texts if re.search(r"^\s*tfds (build|convert_format)", text, re.MULTILINE)]
