"""What the decoder makes of the encoder's features."""

import numpy as np
from matplotlib.figure import Figure

from repre_jax.report.figures import sheet

TARGET = "Target: the view's own pixels, 0 to 1, before they are normalised; here of images that were not augmented."


@sheet.styled
def draw(views: np.ndarray, rebuilt: np.ndarray, *, title: str = "Reconstructions") -> Figure:
    """View, reconstruction and (brightened) absolute difference, a column an image, with its L1 and PSNR.

    views, rebuilt: float [n, H, W, C] in 0..1; values of `rebuilt` beyond that are cut for display only.
    """
    difference = np.abs(views - rebuilt)
    # Small differences would be black: shown twice, four times ... as bright, as far as 99 % of them allow.
    gain = 2 ** int(np.clip(np.floor(-np.log2(np.quantile(difference, 0.99) + 1e-9)), 0, 5))
    caption = f"{TARGET} L1: mean absolute difference over pixels and channels; PSNR in dB."
    if gain > 1:
        caption += f" The difference is shown {gain} times as bright."
    figure, axes = sheet.images(3, [""] * len(views), views.shape[1:], title=title, caption=caption, under=0.1)
    for column, (view, image) in enumerate(zip(views, rebuilt, strict=True)):
        for row, pixels in enumerate((view, image, gain * difference[column])):
            sheet.show(axes[row, column], pixels)
        l1, decibels = measures(view, image)
        axes[2, column].set_xlabel(f"L1 {l1:.3f}\n{decibels:.1f} dB")
    for row, name in enumerate(("view", "reconstruction", f"difference x {gain}" if gain > 1 else "difference")):
        axes[row, 0].set_ylabel(name)
    return figure


def measures(view: np.ndarray, rebuilt: np.ndarray) -> tuple[float, float]:
    """L1, 0..1, and PSNR, dB of a peak of 1, of one image."""
    error = float(np.mean((view - rebuilt) ** 2))
    return float(np.abs(view - rebuilt).mean()), 10 * float(np.log10(1 / max(error, 1e-12)))
