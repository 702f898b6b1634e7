"""Figures and images of Python as PNG: those of matplotlib and Pillow, and what shows itself in a notebook as an image.

How large a figure gets is decided before it is drawn, and how many pixels an image has before it is read.
"""

import io
from collections.abc import Callable, Mapping
from typing import Any

from piano_jupyter.attachments.displayed import image_bytes
from piano_jupyter.attachments.image_header import check_pixels
from piano_jupyter.attachments.scaling import MAX_SIDE, scaled_png
from piano_jupyter.errors import PianoError

PLOTTING = frozenset({"matplotlib", "seaborn"})  #: whose parts of a figure know the figure
EDGE = 0.1  #: inches around a figure, as in a cell
SHOWN_AS = ("_repr_png_", "_repr_jpeg_", "_repr_mimebundle_")
SHOWN_MIMES = ("image/png", "image/jpeg")
NO_PICTURES = frozenset({"piano_jupyter", "ipywidgets", "_duckdb", "duckdb"})  #: whose objects run code to be shown


def picture_bytes(value: Any) -> bytes | None:
    """Return the bytes of a figure or an image, of at most `MAX_SIDE` pixels a side where they are made here.

    None for anything else. Raises PianoError for one that cannot be shown.
    """
    if draw := _drawing(value):
        try:
            return draw(value)
        except PianoError:
            raise
        except Exception as error:
            why = str(error) or type(error).__name__
            raise PianoError(f"{type(value).__name__} cannot be shown as an image: {why}") from error
    return None


def _drawing(value: Any) -> Callable[[Any], bytes | None] | None:
    """Return what makes an image of a value; None if it is none. No code of the value runs."""
    kind = type(value)
    kinds = {f"{each.__module__}.{each.__name__}" for each in kind.__mro__}
    if "matplotlib.figure.Figure" in kinds:
        return _drawn
    if "PIL.Image.Image" in kinds:
        return _of_pillow
    libraries = {each.partition(".")[0] for each in kinds}
    if any(callable(getattr(kind, name, None)) for name in SHOWN_AS) and not libraries & NO_PICTURES:
        return _shown
    if _is_part_of_figure(value):
        return _figure_of
    if "numpy.ndarray" in kinds and value.dtype == object and value.size and _is_part_of_figure(value.flat[0]):
        return lambda axes: _figure_of(axes.flat[0])  # what `plt.subplots(2, 2)` returns
    return None


def _is_part_of_figure(value: Any) -> bool:
    kind = type(value)
    return str(kind.__module__).partition(".")[0] in PLOTTING and hasattr(kind, "figure")


def _drawn(figure: Any) -> bytes:
    """Return a figure of matplotlib as a cell shows it; a larger one is drawn smaller, never at its full size."""
    before = figure.dpi
    try:
        figure.dpi = min(before, MAX_SIDE / max(figure.get_size_inches()))
        needed = figure.get_tightbbox()  # what reaches out of the figure is shown, too
        dpi = min(figure.dpi, (MAX_SIDE - 2) / (max(needed.width, needed.height) + 2 * EDGE))  # it is rounded up
        written = io.BytesIO()
        figure.savefig(written, format="png", bbox_inches="tight", pad_inches=EDGE, dpi=dpi)
    finally:
        figure.dpi = before
    return written.getvalue()


def _of_pillow(image: Any) -> bytes | None:
    check_pixels(image.width, image.height)
    return scaled_png(image)


def _shown(value: Any) -> bytes | None:
    """Return what a value shows itself as, which may come with metadata."""
    for name in SHOWN_AS:
        arguments = {"include": None, "exclude": None} if name == "_repr_mimebundle_" else {}
        shown = getattr(value, name)(**arguments) if hasattr(type(value), name) else None
        content = shown[0] if isinstance(shown, tuple) and len(shown) == 2 and isinstance(shown[1], Mapping) else shown
        if isinstance(content, Mapping):
            content = next((content[mime] for mime in SHOWN_MIMES if content.get(mime) is not None), None)
        if content is not None:
            return image_bytes(content)
    return None


def _figure_of(part: Any) -> bytes | None:
    """Return the whole figure that axes, a line or a grid of plots is in."""
    figure = part.figure
    return None if figure is None or type(figure) is type(part) else picture_bytes(figure)
