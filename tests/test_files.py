"""Weight files: what PyTorch wrote is read without it, and nothing in a file is run."""

import os
import pickle
import re
import struct
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from repre_jax.core.errors import UserError
from repre_jax.interop import files
from tests.golden.weights import state_dict

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


def test_odd_tensors_are_read_or_named(capsys):
    """As PyTorch writes them (generate.py): what is not read is printed, never dropped or changed in silence."""
    arrays = files.read(GOLDEN / "odd.pth")
    expected = {
        "marked": [0, 1, 2],
        "by_default.scalar": 2.5,
        "by_default.empty": np.zeros((0, 3)),
        "shared.0": [0, 1, 2, 3, 4, 5],
        "shared.1": [[2, 3], [4, 5]],
        "flags": [True, False],
    }
    assert set(arrays) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(arrays[name], values)
        assert arrays[name].shape == np.shape(values)
    printed = capsys.readouterr().out
    assert printed.startswith("Not read from odd.pth: negated (a negated or conjugated view), sparse (torch._utils.")
    assert re.findall(r"(\w+) \(", printed) == ["negated", "sparse", "array", "complex", "unsigned"]


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
    with pytest.raises(UserError, match="holds no tensors by name"):
        files.read(tmp_path / "attack.pth")
    assert not proof.exists()


def name(module, attribute):
    """The opcodes of a pickle, written by hand: this and the following put one value on the stack."""
    return f"c{module}\n{attribute}\n".encode()


def number(value):
    return pickle.LONG1 + bytes([9]) + value.to_bytes(9, "little", signed=True)


def text(value):
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def several(*values):
    return b"(" + b"".join(values) + b"t"


def storage(file, kind="FloatStorage"):
    return several(text("storage"), name("torch", kind), text(file), text("cpu"), number(4)) + b"Q"


def tensor(base, offset, shape, strides):
    parts = (base, number(offset), several(*shape), several(*strides))
    return name("torch._utils", "_rebuild_tensor_v2") + several(*parts) + b"R"


def read_pickled(tmp_path, value):
    """Reads {'x': value} beside a storage of the floats 0..3 and one of the bytes 200, 2."""
    content = b"\x80\x02}(" + text("x") + value + b"u."
    write_pth(tmp_path / "x.pth", content, [np.arange(4, dtype=np.float32).tobytes(), bytes([200, 2])])
    return files.read(tmp_path / "x.pth")


NO_COLUMNS = tensor(storage("0"), 0, [number(1000), number(0)], [number(1), number(1)])
BYTES = [tensor(storage("1", "ByteStorage"), place, [], []) for place in (0, 1)]


def test_pickles_written_by_hand_are_pickles(tmp_path):
    values = read_pickled(tmp_path, tensor(storage("0"), 1, [number(2)], [number(2)]))["x"]
    np.testing.assert_array_equal(values, [1, 3])


@pytest.mark.parametrize(
    ("value", "words"),
    {
        "too long": (tensor(storage("0"), 0, [number(5)], [number(1)]), "lies outside its storage"),
        "offset": (tensor(storage("0"), 3, [number(2)], [number(1)]), "lies outside its storage"),
        "strides": (
            tensor(storage("0"), 0, [number(2), number(2)], [number(3), number(1)]),
            "lies outside its storage",
        ),
        "backwards": (tensor(storage("0"), 1, [number(2)], [number(-1)]), "whole numbers of at least 0"),
        "negative sizes": (tensor(storage("0"), 0, [number(-3)], [number(1)]), "whole numbers of at least 0"),
        "sizes that overflow": (tensor(storage("0"), 0, BYTES[:1], BYTES[1:]), "whole numbers of at least 0"),
        "a tensor as storage": (tensor(NO_COLUMNS, 0, [number(9)], [number(1)]), "not made of a storage"),
        "a dtype of its own": (storage("0").replace(b"ctorch\nFloatStorage\n", text("O")), "holds no tensors|unread"),
    }.values(),
)
def test_memory_outside_the_file_is_never_read(tmp_path, value, words):
    with pytest.raises(UserError, match=words):
        read_pickled(tmp_path, value)


@pytest.mark.parametrize(
    "target",
    [("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"), ("torch", "FloatStorage")],
)
def test_a_file_cannot_change_its_reader(tmp_path, target):
    """BUILD sets attributes on whatever lies on the stack."""
    state = several(b"N", b"}(" + text("__defaults__") + several(number(1)) + text("dtype") + text("O") + b"u")
    with pytest.raises(UserError, match="tries to change what reads it"):
        read_pickled(tmp_path, name(*target) + state + b"b")


def test_names_that_collide_are_refused(tmp_path):
    one, other = (tensor(storage("0"), place, [number(1)], [number(1)]) for place in (0, 1))
    nested = b"}(" + text("x.y") + one + text("x") + b"}(" + text("y") + other + b"uu"
    with pytest.raises(UserError, match=r"holds 'x\.x\.y' twice"):
        read_pickled(tmp_path, nested)


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_written_files_come_back_to_the_bit(tmp_path, kind):
    arrays = {
        "a.b": np.arange(6, dtype=np.float32).reshape(2, 3).T,
        "c": np.float32([np.nan, -0.0, 1e-45]),
        "d": np.array(2.5),
    }
    files.write(tmp_path / f"x.{kind}", arrays)
    back = files.read(tmp_path / f"x.{kind}")
    assert set(back) == set(arrays)
    for name, array in arrays.items():
        assert back[name].tobytes() == array.tobytes("C")
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


@pytest.mark.parametrize("kind", ["safetensors", "npz"])
def test_bfloat16_is_written_as_float32(tmp_path, kind):
    files.write(tmp_path / f"x.{kind}", {"x": np.float32([1.5, -2.0]).astype(ml_dtypes.bfloat16)})
    np.testing.assert_array_equal(files.read(tmp_path / f"x.{kind}")["x"], np.float32([1.5, -2.0]))


def test_only_known_kinds_are_written(tmp_path):
    with pytest.raises(UserError, match="the folder does not exist"):
        files.write(tmp_path / "absent" / "x.npz", {})
    with pytest.raises(UserError, match=r"ending in \.safetensors or \.npz"):
        files.write(tmp_path / "x.pth", {})
