"""Results of runs, printed one under the other."""

from repre_jax.tools import results
from tests.helpers import logged


def test_each_run_has_its_numbers_and_what_they_are_compared_with(tmp_path, capsys):
    trained, voted, begun = tmp_path / "trained", tmp_path / "voted", tmp_path / "begun"
    logged.write(trained, result=logged.RESULT)
    of_run = {"knn_k": 20, "knn_top1": 0.953, "knn_top1_untrained": 0.658, "knn_top1_pixels": 0.944}
    votes = {"task": "knn", "knn_top1": {"10": 0.951, "20": 0.953}, "seconds": 3.0, "run": of_run}
    logged.write(voted, logged=[], config=logged.CONFIG | {"task": "knn", "repre": {}}, result=votes)
    logged.write(begun, logged=[])
    assert results.main([str(trained), str(voted), str(begun)]) == 0
    first, second, third = (each.splitlines() for each in capsys.readouterr().out.strip().split("\n\n"))
    assert first[0] == f"MoCo v3 with RePre, ViT-S, digits: {trained}"
    assert first[1].split() == ["k-NN", "top-1", "95.3%", "untrained", "encoder", "65.8%,", "raw", "pixels", "94.4%"]
    assert first[2].split() == ["Reconstruction", "L1", "0.0041", "each", "image's", "mean", "colour", "0.2845"]
    assert second[0] == f"k-NN of MoCo v3, ViT-S, digits: {voted}"
    assert [" ".join(line.split()[2:]) for line in second[1:]] == [
        "95.1% k = 10",
        "95.3% k = 20, untrained encoder 65.8%, raw pixels 94.4%",
    ]
    assert third == [f"MoCo v3 with RePre, ViT-S, digits: {begun}  (not finished, step 0)", "  no result yet"]


def test_a_probe_has_what_its_encoders_run_measured(tmp_path, capsys):
    """k-NN of raw pixels and HOG, as its own summary names them; none where the encoder came from a file."""
    measured = {"knn_top1": 0.853, "knn_top1_untrained": 0.631, "knn_top1_pixels": 0.317, "knn_top1_hog": 0.678}
    result = {"task": "linear", "top1": 0.862, "top1_untrained": 0.612, "top1_protocol": 0.867, "seconds": 3.0}
    result |= {"top1_pixels": 0.303}
    for name, run in (("of_run", measured), ("of_file", None)):
        logged.write(
            tmp_path / name, logged=[], config=logged.CONFIG | {"task": "linear"}, result=result | {"run": run}
        )
    assert results.main([str(tmp_path / "of_run"), str(tmp_path / "of_file")]) == 0
    one, other = (each.splitlines()[1:] for each in capsys.readouterr().out.strip().split("\n\n"))
    probe = "86.2% untrained encoder 61.2%, raw pixels by a ridge classifier 30.3%, the protocol's learning rate 86.7%"
    vote = "85.3% untrained encoder 63.1%, raw pixels 31.7%, HOG 67.8%"
    assert [" ".join(line.split()) for line in one] == [f"Top-1 {probe}", f"k-NN top-1 {vote}"]
    assert [" ".join(line.split()) for line in other] == [f"Top-1 {probe}"]


def test_a_folder_without_a_run_is_named(tmp_path, capsys):
    assert results.main([str(tmp_path)]) == 1
    assert f"{tmp_path} holds no run: it has no config.json." in capsys.readouterr().err
