"""The chart of %piano stats --plot, drawn with matplotlib (optional) as a picture, without choosing a backend."""

from io import BytesIO
from typing import Any

from IPython.display import Image

from piano_jupyter.records import Rows

GREY = "#8a8a8a"  # legible on white and on black
COLOURS = {"prompt_tokens": "#90a4ae", "cached_tokens": "#80cbc4", "completion_tokens": "#1976d2"}
LABELS = {"prompt_tokens": "prompt, read", "cached_tokens": "prompt, from the cache", "completion_tokens": "written"}
BAR_INCHES, MARGIN_INCHES, WIDTH_INCHES = 0.35, 1.1, 9.0  # inches


def bars(rows: Rows) -> Image:
    """Return a bar chart of statistics (`Piano.stats`): tokens and tokens per second of each row."""
    from matplotlib.figure import Figure  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415  Optional.

    names = [str(row[0]) for row in rows]
    figure = Figure(figsize=(WIDTH_INCHES, MARGIN_INCHES + BAR_INCHES * len(names)), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    begin = [0.0] * len(names)
    for kind, values in token_bars(rows).items():
        left.barh(names, values, left=begin, color=COLOURS[kind], label=LABELS[kind])
        begin = [sum(pair) for pair in zip(begin, values, strict=True)]
    right.barh(names, _column(rows, "tokens_per_second"), color=COLOURS["completion_tokens"])
    left.set_title("tokens")
    right.set_title("tokens per second (median)")
    left.invert_yaxis()
    for axes in (left, right):
        _make_plain(axes)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, labelcolor=GREY)
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=144, transparent=True, metadata={"Software": None})
    return Image(picture.getvalue(), format="png", retina=True)


def token_bars(rows: Rows) -> dict[str, list[float]]:
    """Return the lengths of the bars: prompt tokens read, prompt tokens from the cache, tokens written."""
    prompt, cached = _column(rows, "prompt_tokens"), _column(rows, "cached_tokens")
    return {
        "prompt_tokens": [max(0.0, all_ - from_cache) for all_, from_cache in zip(prompt, cached, strict=True)],
        "cached_tokens": cached,
        "completion_tokens": _column(rows, "completion_tokens"),
    }


def _column(rows: Rows, name: str) -> list[float]:
    at = rows.columns.index(name)
    return [float(row[at] or 0) for row in rows]


def _make_plain(axes: Any) -> None:
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.tick_params(colors=GREY)
    axes.title.set_color(GREY)
    axes.title.set_fontsize(10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["bottom", "left"]].set_color(GREY)
