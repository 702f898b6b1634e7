"""Takes a picture of every state of the chat: JupyterLab and Notebook 7, light and dark, wide and narrow.

python tests/browser/screenshots.py FOLDER [STATE ...] [--only FRONT_END]     every state, or these
python tests/browser/screenshots.py --readme                                  the pictures of the README

The files are FOLDER/STATE-FRONT_END-SHADE-SIZE.png.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from browser import page_states, panel_states  # noqa: F401  They add their states.
from browser.conftest import BROWSERS, FLAGS
from browser.lab import LONG, ClassicNotebook, Lab, Notebook
from browser.panel_parts import theme
from browser.scene import MODELS, SERVES, STATES, Scene
from PIL import Image
from playwright.sync_api import Browser, Error, Locator, Page, expect, sync_playwright

from piano_jupyter.testing import ScriptedServer, echo

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / ".github" / "images"
COLOURS = 128
WIDE = {"width": 1200, "height": 900}
README = {  # the state and the size of the page of each picture
    "notebook": ("beside_the_notebook", {"width": 1200, "height": 760}),
    "panel": ("messages", {"width": 1000, "height": 1050}),
    "models": ("two_agents", {"width": 1000, "height": 900}),
}
NARROW = {"width": 560, "height": 760}  # of a page
PANELS = ((400, 640), (320, 240))
SHADES = ("Dark", "Light")  # light at the end, as it was
#: give the panel this width, and what scrolls around it this height; what was before, without a size
RESIZE = """(panel, [width, height]) => {
    const around = panel.closest(".jp-WindowedPanel-outer");
    panel.style.maxWidth = width ? `${width}px` : "";
    if (height) around.style.setProperty("height", `${height}px`, "important");
    else around.style.removeProperty("height");
}"""
FRAMES = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))"


def settle(page: Page) -> None:
    """Return when the page is painted, and JupyterLab's sign that a theme is loaded is gone."""
    expect(page.locator("#jupyterlab-splash")).to_have_count(0, timeout=LONG)
    page.evaluate(FRAMES)


def take(name: str, scene: Scene, folder: Path) -> list[Path]:
    """Bring a state about and take its pictures; return their files."""
    prepare, of = STATES[name]
    taken = []

    def keep(size: str, what: Locator | None = None) -> None:
        settle(scene.page)
        taken.append(folder / f"{name}-{scene.kind.front_end}-{shade.lower()}-{size}.png")
        (what or scene.page).screenshot(path=taken[-1])

    try:
        nb = prepare(scene)
        scene.page.evaluate("() => jupyterapp.shell.collapseLeft?.()")
        for shade in SHADES:
            theme(nb, shade)
            keep("wide")
            if of == "panel":
                for width, height in PANELS:
                    nb.panel.evaluate(RESIZE, [width, height])
                    keep(f"{width}x{height}", nb.panel)
                nb.panel.evaluate(RESIZE, [None, None])
            else:
                scene.page.set_viewport_size(NARROW)
                keep("narrow")
                scene.page.set_viewport_size(WIDE)
    finally:
        scene.close()
    return taken


@contextmanager
def scenes(browser: Browser, scale: int = 1) -> Iterator[list[Scene]]:
    """Yield a scene of each front end, on one server."""
    with (
        tempfile.TemporaryDirectory() as folder,
        ScriptedServer(answer=echo, models=list(MODELS), serves=SERVES) as model,
    ):
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        lab = Lab(Path(folder), {"PYTHONPATH": path, "PIANO_BASE_URL": model.url, "XDG_DATA_HOME": folder})
        try:
            pages = [browser.new_page(viewport=WIDE, device_scale_factor=scale) for _ in range(2)]
            pages[0].goto(lab.address(), wait_until="domcontentloaded")
            pages[0].wait_for_function("() => window.jupyterapp", timeout=LONG)
            pages[0].evaluate("() => jupyterapp.restored")
            yield [Scene(page, lab, model, kind) for page, kind in zip(pages, (Notebook, ClassicNotebook), strict=True)]
        finally:
            lab.end_kernels()
            lab.stop()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield a browser."""
    found = os.environ.get("E2E_CHROMIUM") or next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


def shrink(file: Path) -> None:
    """Make a picture smaller: text and flat colours need no more than a palette."""
    with Image.open(file) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(file, optimize=True)


def take_for_readme(scene: Scene) -> None:
    """Take the pictures of the README again, into its folder."""
    for name, (state, size) in README.items():
        scene.page.set_viewport_size(size)
        nb = STATES[state][0](scene)
        scene.page.evaluate("() => jupyterapp.shell.collapseLeft?.()")
        for shade in SHADES if name == "models" else SHADES[1:]:
            theme(nb, shade)
            settle(scene.page)
            file = IMAGES / (f"{name}_{shade.lower()}.png" if name == "models" else f"{name}.png")
            (nb.panel if name == "panel" else scene.page).screenshot(path=file)
            shrink(file)
        scene.close()


def main() -> None:
    """Take them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readme", action="store_true")
    parser.add_argument("--only", choices=["lab", "notebook7"], help="in this front end")
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("states", nargs="*")
    asked = parser.parse_args()
    with chromium() as browser, scenes(browser, scale=2 if asked.readme else 1) as both:
        if asked.readme:
            take_for_readme(both[0])
            return
        asked.folder.mkdir(parents=True, exist_ok=True)
        failed = []
        for scene in (each for each in both if asked.only in {None, each.kind.front_end}):
            for name in asked.states or STATES:
                try:
                    print(*take(name, scene, asked.folder), sep="\n", flush=True)
                except (AssertionError, Error) as error:
                    failed.append(name)
                    print(f"{name} in {scene.kind.front_end} failed: {error}", flush=True)
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
