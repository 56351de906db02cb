"""Valid taps by rate, as a table and a figure: python docs/draw_rates.py FIGURE.png"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

from atrous.profile import compute_tap_shares, compute_valid_taps

SIZES_PX = (128, 256, 321, 513, 769)
RATES = (2, 4, 6, 8, 12, 16, 18, 24)
OUTPUT_STRIDE = 16
COLORS = {9: "#2f6db3", 6: "#9db8d9", 4: "#1b8a5a", 2: "#a9cdbd", 1: "#d95f0e"}


def print_table() -> None:
    print("| image | map |" + "".join(f" {rate} |" for rate in RATES))
    print("|---" * (len(RATES) + 2) + "|")
    for size_px in SIZES_PX:
        side = -(-size_px // OUTPUT_STRIDE)
        taps = (compute_valid_taps((side, side), rate_hw=(rate, rate)) for rate in RATES)
        cells = "".join(f" {valid:.2f} |" for valid in taps)
        print(f"| {size_px} | {side}×{side} |{cells}")


def draw_shares(axes, side, last_rate, marked=()):
    rates = range(1, last_rate + 1)
    shares = [compute_tap_shares((side, side), rate) for rate in rates]
    for num_taps, color in COLORS.items():
        name = f"{num_taps} taps" if num_taps > 1 else "1 tap: the centre"
        is_papers = num_taps in (1, 4, 9)
        axes.plot(
            rates, [share[num_taps] for share in shares], color=color, label=name,
            lw=1.8 if is_papers else 1.1, ls="-" if is_papers else (0, (4, 2)),
            marker="o" if side < 30 else None, ms=3,
        )  # fmt: skip
    for rate in marked:
        axes.axvline(rate, color="#8a8f98", lw=0.8, ls=":", zorder=0)
    axes.set(xlim=(1, last_rate), ylim=(-0.02, 1.02), xlabel="atrous rate")
    axes.set_title(f"{side}×{side} map", loc="left", weight="bold", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e8eb")


def main(path: Path) -> None:
    print_table()
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    papers, reports = figure.subplots(1, 2, sharey=True)
    draw_shares(papers, 65, 100)
    draw_shares(reports, 16, 26, marked=(8, 12, 16, 24))
    papers.set_ylabel("share of positions")
    figure.legend(*papers.get_legend_handles_labels(), loc="outside lower center", ncols=5,
                  frameon=False)  # fmt: skip
    figure.savefig(path, dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
