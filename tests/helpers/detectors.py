"""A miniature of COCO, prepared, and the flags of a detector that is small enough for it."""

from tests.helpers import coco, preparing

# One canvas of 64 x 64 in place of two: half the programs to compile.
SQUARE = ("--config.detect.shorts=(64,)", "--config.detect.test_short=64")


def data(folder):
    """The data folder, in `folder`."""
    zips = coco.zips(folder / "downloads")
    assert preparing.run("coco", "--from", zips, "--data-dir", folder / "data", "--partial") == 0
    return folder / "data"


def flags(root, *more):
    """Canvases of 32 x 64 and 64 x 32, and few of everything."""
    return (
        f"--config.data.dir={root}", "--config.data.workers=0", "--config.batch_size=2", "--config.total_steps=4",
        "--config.optim.warmup_steps=1", "--config.log_every=2", "--config.evaluations=2",
        "--config.checkpoint.every=2", "--config.checkpoint.keep=9", "--config.detect.shorts=(32,)",
        "--config.detect.longest=64",
        "--config.detect.crop_shorts=(32,)", "--config.detect.crop_sides=(24, 32)", "--config.detect.test_short=32",
        "--config.detect.test_longest=64", "--config.detect.slots=4", "--config.detect.width=16",
        "--config.detect.hidden=32", "--config.detect.anchors=32", "--config.detect.anchor_positives=16",
        "--config.detect.regions=16", "--config.detect.region_positives=4", "--config.detect.per_level=20",
        "--config.detect.proposals=20", "--config.detect.test_per_level=20", "--config.detect.test_proposals=20",
        "--config.detect.test_candidates=30", *more,
    )  # fmt: skip
