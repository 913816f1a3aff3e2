"""Draw the learning curves of what ships: experiments/nano/curves/*.csv to curves.png.

    python experiments/nano/plot_curves.py
The files are those that the training scripts write or print: CPU seconds of one core, and scores.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

FOLDER = Path(__file__).with_name("curves")
PANELS = (
    ("encoder", "held_cosine", "cosine, held-out people"),
    ("base", "error", "error of v"),
    ("tdm", "error", "error of v"),
    ("sdm", "error", "error of v"),
    ("sdm", "identity", "1 - cosine to the true face"),
)
"""Curve, its column, what that is."""


def main() -> None:
    """A panel a score."""
    figure, axes = plt.subplots(1, len(PANELS), figsize=(3.2 * len(PANELS), 2.8))
    for axis, (name, column, label) in zip(axes, PANELS, strict=True):
        rows = np.genfromtxt(FOLDER / f"{name}.csv", delimiter=",", names=True)
        # No identity term at first.
        rows = rows[rows[column] > 0]
        axis.plot(rows["seconds"] / 60, rows[column], linewidth=1.2)
        axis.set(title=name, xlabel="CPU minutes of one core", ylabel=label)
        axis.set_ylim(top=1.02 * float(np.quantile(rows[column], 0.97)))
    figure.tight_layout()
    figure.savefig(FOLDER.with_suffix(".png"), dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
