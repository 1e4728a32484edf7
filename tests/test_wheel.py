"""The wheel: what is in it, and that it works in an empty folder without the clone."""

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

import repre_jax
from repre_jax.system import huge_pages

ROOT = Path(__file__).resolve().parent.parent
EXTRAS = ("cuda", "tpu", "scenes", "gcs", "hub", "docs", "dev")
TEST_ONLY = ("XLA_FLAGS", "PYTHONPATH")  # eight fake devices, and whatever leads to the clone


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by what requirements-dev.txt names, without asking the network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "-w", folder, ROOT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def start(wheel, tmp_path_factory):
    """A function that runs a command where the wheel is installed and the clone is not, in the folder it is given."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", place, wheel]
    subprocess.run(pip, check=True)
    environment = {name: value for name, value in os.environ.items() if name not in TEST_ONLY}
    environment |= {"PYTHONPATH": str(place), "PATH": f"{place / 'bin'}:{os.environ['PATH']}"}

    def run(folder, *command, status=0, **variables):
        command = [sys.executable, "-m", *command] if command[0].startswith("repre_jax") else command
        done = subprocess.run(
            command, cwd=folder, env=environment | variables, capture_output=True, text=True, check=False
        )
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def names(wheel):
    return set(zipfile.ZipFile(wheel).namelist())


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"}


def test_the_wheel_has_every_file_of_the_package_and_the_configs(wheel):
    inside = {name for name in names(wheel) if ".dist-info/" not in name}
    shipped = {"main.py"} | {f"configs/{name}" for name in files(ROOT / "configs")}
    assert inside == {f"repre_jax/{name}" for name in files(ROOT / "repre_jax")} | {
        f"repre_jax/shipped/{name}" for name in shipped
    }
    assert inside > {"repre_jax/report/page.css", "repre_jax/py.typed", "repre_jax/shipped/configs/base.py"}


def test_its_metadata_are_those_of_the_repository(wheel):
    (dist,) = metadata.distributions(path=[str(wheel)])
    assert dist.version == repre_jax.__version__
    assert dist.metadata["Description-Content-Type"] == "text/markdown"
    assert dist.metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()
    assert "Project-URL" not in dist.metadata and "Home-page" not in dist.metadata
    assert {name for name in names(wheel) if name.endswith("LICENSE")}
    (script,) = dist.entry_points
    assert (script.name, script.group) == ("repre-jax", "console_scripts")
    wanted = {(name, None) for name in required("requirements.txt")}
    wanted |= {(name, extra) for extra in EXTRAS for name in required(f"requirements-{extra}.txt")}
    found = set()
    for line in dist.requires:
        extra = re.search(r"extra == '(\w+)'", line)
        found.add((plain(line), extra and extra[1]))
    assert found == wanted


def required(file):
    lines = (line.split("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return {plain(line) for line in lines if line and not line.startswith("-")}


def plain(line):
    """The name of a requirement, with its extras: 'jax[cuda12]'."""
    return re.match(r"[\w.-]+(\[\w+\])?", line)[0].lower().replace("_", "-")


def test_the_command_starts_anew_for_large_pages_and_names_itself(start, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys; print('started', *sys.orig_argv[1:], file=sys.stderr)")
    paths = os.pathsep.join([str(tmp_path), installed_at(start, tmp_path)])
    for command in (["repre-jax"], ["repre_jax"]):
        said = start(tmp_path, *command, "--help", PYTHONPATH=paths, **{huge_pages.VARIABLE: ""})
        assert said.count("started ") == (2 if huge_pages._lacking() else 1)
        assert "  repre-jax --config configs/moco_vit_s.py:digits " in said
        assert "configs:  byol_vit_b, byol_vit_s, " in said
        (keys,) = re.findall(r"keys:     (\S+), of evaluations (\S+)", said)
        assert all(Path(file).is_file() and ROOT not in Path(file).parents for file in keys)
    said = start(tmp_path, "repre-jax", "--config=moco_vit_s:digits", "--config.data.name=none", status=1)
    assert "meanwhile, without any download:  repre-jax --config configs/moco_vit_s.py:digits" in said


def installed_at(start, folder):
    return start(folder, sys.executable, "-c", "import os; print(os.environ['PYTHONPATH'])").strip()


def test_configs_and_main_are_no_packages_of_the_environment(start, tmp_path):
    program = "import importlib.util as u; print([u.find_spec(name) for name in ('configs', 'main', 'shipped')])"
    assert start(tmp_path, sys.executable, "-c", program).strip() == "[None, None, None]"


def test_the_doctor_compares_with_the_packages_that_the_wheel_asks_for(start, tmp_path):
    """Not with those of extras, nor with a requirements.txt that lies somewhere."""
    (tmp_path / "requirements.txt").write_text("no-such-package\n")
    done = start(tmp_path, sys.executable, "-c", DOCTOR)
    assert {plain(line) for line in done.split("\n") if line} == required("requirements.txt")


DOCTOR = (
    "from repre_jax.system import shipped; from repre_jax.tools.checkup import software; "
    "print(*software.requirements(shipped.root()), sep='\\n')"
)


@pytest.mark.slow
def test_a_run_a_figure_and_an_export_in_an_empty_folder(start, tmp_path):
    start(tmp_path, "repre-jax", "--config", "moco_vit_s:tiny", "--config.total_steps=2", "--quiet")
    run = tmp_path / "runs" / "moco_vit_s-tiny"
    result = json.loads((run / "result.json").read_text())
    assert result["steps"] == 2
    assert result["command"] == "repre-jax --config moco_vit_s:tiny --config.total_steps=2 --quiet"
    assert "<style>" in (run / "report.html").read_text()
    said = start(tmp_path, "repre_jax.tools.figures", "reconstructions", "runs/moco_vit_s-tiny")
    assert "Drawn: " in said
    assert (run / "figures" / "reconstructions.png").stat().st_size > 1000
    start(tmp_path, "repre_jax.tools.export", "runs/moco_vit_s-tiny")
    card = json.loads(next(run.glob("export/*.json")).read_text())
    assert (card["step"], card["commit"]) == (2, None)
    program = (
        "import glob, numpy, repre_jax; encoder, params, card = repre_jax.load_encoder(glob.glob('*.safetensors')[0]); "
        "images = numpy.zeros((2, *card['preprocessing']['image_size'], 3), 'float32'); "
        "print(encoder.apply({'params': params}, images).pooled.shape)"
    )
    assert start(run / "export", sys.executable, "-c", program).strip() == "(2, 32)"
