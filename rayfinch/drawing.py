"""One alert as a picture: its three cutouts and its light curve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from broker.packets.cutouts import with_cutouts

_COLOURS = {"u": "#6a3d9a", "g": "#2b8a3e", "r": "#c92a2a", "i": "#e67700", "z": "#5c3d2e", "y": "#343a40"}
_TITLES = ("science", "template", "difference")


def draw(alert: pa.Table, png: Path) -> None:
    """Draw the one row of an alert table to a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 3, height_ratios=(1, 1))
    row = alert.drop_columns(["packet"]).to_pylist()[0]
    _draw_cutouts(alert, [figure.add_subplot(grid[0, i]) for i in range(3)])
    _draw_light_curve(row, figure.add_subplot(grid[1, :]))
    scores = "; ".join(_said(score) for score in row.get("scores") or [])
    figure.suptitle(f"{row['survey']} {row['object_id']}, alert {row['alert_id']}\n{scores}", fontsize=11)
    figure.savefig(png, dpi=110, format="png")


def _draw_cutouts(alert: pa.Table, axes: list[Any]) -> None:
    drawn = with_cutouts(alert)
    pixels = np.asarray(drawn["cutouts"].combine_chunks().to_numpy_ndarray())[0] if len(drawn) else []
    for image, title, ax in zip(pixels, _TITLES, axes, strict=True):
        finite = image[np.isfinite(image)]
        low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0, 1)
        ax.imshow(image, origin="lower", cmap="gray", vmin=low, vmax=max(high, np.nextafter(low, np.inf)))
        ax.set(title=title if finite.size else f"no {title}", xticks=[], yticks=[])


def _draw_light_curve(row: dict[str, Any], ax: Any) -> None:
    own = {key: row[key] for key in ("mjd", "band", "flux", "flux_err")} | {"kind": "detection"}
    points = [*(row["history"] or []), own]
    for band, colour in _COLOURS.items():
        seen = [p for p in points if p["band"] == band]
        measured = [p for p in seen if p["kind"] != "limit" and p["flux"] is not None]
        limits = [p for p in seen if p["kind"] == "limit" and p["flux_err"] is not None]
        if measured:
            ax.errorbar(
                [p["mjd"] for p in measured],
                [p["flux"] for p in measured],
                [p["flux_err"] or 0 for p in measured],
                fmt="o",
                ms=4,
                color=colour,
                label=band,
            )
        if limits:
            ax.plot(
                [p["mjd"] for p in limits],
                [5 * p["flux_err"] for p in limits],
                "v",
                ms=4,
                mfc="none",
                mec=colour,
            )
    ax.axvline(row["mjd"], color="0.8", zorder=0)
    ax.axhline(0, color="0.9", zorder=0)
    ax.set(xlabel="MJD (TAI)", ylabel="difference flux (nJy)")
    ax.ticklabel_format(useOffset=False, axis="x")
    if ax.get_legend_handles_labels()[0]:
        ax.legend(title="triangles: 5-sigma limits", fontsize=9)


def _said(score: dict[str, Any]) -> str:
    name = f"{score['model']} {score['version']}"
    if score["probabilities"] is None:
        return f"{name}: {score['reason']}"
    best = int(np.argmax(score["probabilities"]))
    return f"{name}: {score['classes'][best]} {score['probabilities'][best]:.2f}"
