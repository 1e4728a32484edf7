"""Weight files: what PyTorch wrote is read without it, and nothing in a file is run."""

import os
import pickle
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from golden.weights import state_dict
from safetensors.numpy import save_file

from repre_jax.core.errors import UserError
from repre_jax.interop import files

GOLDEN = Path(__file__).parent / "golden"


def test_a_plain_pth_file():
    weights = state_dict("swin")
    arrays = files.read(GOLDEN / "plain.pth")
    assert set(arrays) == {"norm.weight", "layers.1.downsample.reduction.weight"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, weights[name])


def test_a_checkpoint_with_more_than_tensors():
    """Namespaces and numbers are passed over; transposed views, slices, scalars and bfloat16 come out right."""
    weights = state_dict("swin")
    arrays = files.read(GOLDEN / "checkpoint.pth")
    reduction = weights["layers.1.downsample.reduction.weight"]
    np.testing.assert_array_equal(
        arrays["state_dict.module.base_encoder.layers.1.downsample.reduction.weight"], reduction
    )
    np.testing.assert_array_equal(arrays["optimizer.state.0.exp_avg"], reduction.T)
    assert arrays["optimizer.state.0.step"] == 5
    assert arrays["half"].dtype == np.float32
    np.testing.assert_array_equal(arrays["half"], weights["norm.bias"].astype(ml_dtypes.bfloat16).astype(np.float32))
    np.testing.assert_array_equal(arrays["slice"], weights["norm.bias"][3:7])
    assert len(arrays) == 6


class Attack:
    """Unpickled in the usual way, this would run a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def write_pth(path, content, storages=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for number, data in enumerate(storages):
            archive.writestr(f"archive/data/{number}", data)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_in_a_pth_file_is_run(tmp_path, protocol):
    proof = tmp_path / "proof"
    content = pickle.dumps({"model": Attack(f"touch {proof}")}, protocol)
    pickle.loads(content)
    assert proof.exists(), "the attack works where it is allowed to"
    proof.unlink()
    write_pth(tmp_path / "attack.pth", content)
    assert files.read(tmp_path / "attack.pth") == {}
    assert not proof.exists()


@pytest.mark.parametrize(
    ("offset", "shape", "strides"), [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 2), (3, 1)), (1, (2,), (-2,))]
)
def test_a_tensor_outside_its_storage_is_refused(tmp_path, offset, shape, strides):
    """Such a file would read this process's memory."""

    class Storage:
        pass

    class Tensor:
        def __reduce__(self):
            return Rebuild(), (Storage(), offset, shape, strides)

    class Rebuild:
        pass

    class Pickler(pickle._Pickler):
        def persistent_id(self, value):
            return ("storage", "FloatStorage", "0", "cpu", 4) if isinstance(value, Storage) else None

        def save(self, value, save_persistent_id=True):
            if isinstance(value, Rebuild):
                self.write(b"ctorch._utils\n_rebuild_tensor_v2\n")
            else:
                super().save(value, save_persistent_id)

        def save_reduce(self, func, args, obj=None, **_):
            self.save(func)
            self.save(args)
            self.write(b"R")

    with (tmp_path / "pickle").open("wb") as file:
        Pickler(file, 2).dump({"x": Tensor()})
    content = (tmp_path / "pickle").read_bytes().replace(b"X\x0c\x00\x00\x00FloatStorage", b"ctorch\nFloatStorage\n")
    write_pth(tmp_path / "x.pth", content, [np.arange(4, dtype=np.float32).tobytes()])
    with pytest.raises(UserError, match="lies outside its storage"):
        files.read(tmp_path / "x.pth")


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_written_files_come_back_to_the_bit(tmp_path, kind):
    arrays = {"a.b": np.arange(6, dtype=np.float32).reshape(2, 3).T, "c": np.float32([np.nan, -0.0, 1e-45])}
    files.write(tmp_path / f"x.{kind}", arrays)
    back = files.read(tmp_path / f"x.{kind}")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].tobytes() == np.ascontiguousarray(array).tobytes()
        assert back[name].shape == array.shape


def test_bfloat16_safetensors_are_widened(tmp_path):
    values = np.float32([1.5, -2.0]).astype(ml_dtypes.bfloat16)
    save_file({"x": values}, tmp_path / "x.safetensors")
    back = files.read(tmp_path / "x.safetensors")["x"]
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, [1.5, -2.0])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent.npz", None, "absent.npz does not exist"),
        ("x.onnx", b"", "unknown kind.\n  expected: .safetensors, .npz, .pth"),
        ("x.pth", b"\x80\x02}q\x00.", "written before PyTorch 1.6"),
        ("x.pth.tar", b"damaged", "written before PyTorch 1.6"),
        ("x.safetensors", b"damaged", "cannot be read: "),
        ("x.npz", b"damaged", "cannot be read: "),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=words):
        files.read(tmp_path / name)


def test_a_cut_off_pth_file_is_named(tmp_path):
    data = (GOLDEN / "plain.pth").read_bytes()
    with zipfile.ZipFile(GOLDEN / "plain.pth") as whole, zipfile.ZipFile(tmp_path / "x.pth", "w") as cut:
        for name in whole.namelist():
            if not name.endswith("data/0"):
                cut.writestr(name, whole.read(name))
    with pytest.raises(UserError, match="cannot be read: KeyError"):
        files.read(tmp_path / "x.pth")
    (tmp_path / "y.pth").write_bytes(data[: len(data) // 2])
    with pytest.raises(UserError, match=r"y\.pth is not a zip file: damaged"):
        files.read(tmp_path / "y.pth")


def test_only_known_kinds_are_written(tmp_path):
    with pytest.raises(UserError, match=r"ending in \.safetensors or \.npz"):
        files.write(tmp_path / "x.pth", {})
