"""Draw the learning curves of the shipped denoisers: experiments/nano/curves/*.csv to curves.png.

    python experiments/nano/plot_curves.py
The files hold `step,loss`, rows of metrics.csv of the runs that made the weights; loss is min-SNR weighted.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

FOLDER = Path(__file__).with_name("curves")
WINDOW = 10


def main() -> None:
    """One panel a model, with a running mean over ten rows."""
    paths = sorted(FOLDER.glob("*.csv"))
    figure, axes = plt.subplots(1, len(paths), figsize=(3.6 * len(paths), 2.8), squeeze=False)
    for axis, path in zip(axes[0], paths, strict=True):
        step, loss = np.loadtxt(path, delimiter=",", skiprows=1, unpack=True)
        window = min(WINDOW, len(step))
        mean = np.convolve(loss, np.ones(window) / window, "valid")
        axis.plot(step, loss, color="0.8", linewidth=0.8)
        axis.plot(step[window - 1 :], mean, color="C0", linewidth=1.5)
        axis.set(title=path.stem, xlabel="steps of 32 pictures", ylabel="loss")
        axis.set_ylim(top=1.05 * float(np.quantile(loss, 0.97)))
    figure.tight_layout()
    figure.savefig(FOLDER.with_suffix(".png"), dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main()
