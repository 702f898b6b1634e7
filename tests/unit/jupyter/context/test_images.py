"""`{{image("plot.png")}}`: the file of an image, of the workspace only where code of an agent asks."""

import io
import os

import pytest
from pictures import png, png_that_claims

from piano_jupyter.agent_code import redirect_output
from piano_jupyter.errors import PianoError
from piano_jupyter.jupyter.context.images import image_function
from piano_jupyter.variables.fill_in import fill_in


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """`filled(path)` is a question with this image, asked in a workspace with some files."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (tmp_path / "key.png").write_bytes(png(9, 9))
    (work / "plot.png").write_bytes(png(30, 20))
    (work / "link.png").symlink_to(tmp_path / "key.png")
    (work / "bomb.png").write_bytes(png_that_claims(60_000, 60_000))
    os.mkfifo(work / "pipe.png")
    (work / "drawing.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>", encoding="utf-8")
    (work / "notes.png").write_text("no image", encoding="utf-8")
    return lambda path: fill_in(f"See {{{{image({path!r})}}}}", {"image(": image_function(str(work)), "image": 1})


def test_an_image_is_attached_under_the_name_of_its_file(filled):
    found = filled("plot.png")

    assert (found.sent, found.shown) == ("See [plot.png, 30 × 20]", "See plot.png · 30 × 20")
    assert [each.content for each in found.attachments] == [png(30, 20)]


@pytest.mark.parametrize("arguments", ["", "'plot.png', 3", "path='plot.png'", "b'plot.png'"])
def test_it_takes_one_path(filled, tmp_path, arguments):
    with pytest.raises(PianoError, match="image takes the path of one file"):
        fill_in(f"{{{{image({arguments})}}}}", {"image(": image_function(str(tmp_path))})


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("missing.png", r"missing\.png cannot be read: no such file"),
        ("notes.png", r"notes\.png is no PNG, JPEG, GIF or WebP image"),
        ("bomb.png", r"bomb\.png has 60,000 × 60,000 pixels"),
        (".", "is a folder|cannot be read"),
        ("pipe.png", r"pipe\.png is a named pipe|pipe\.png is a"),
        ("/dev/zero", r"/dev/zero is a"),
        ("https://example.org/plot.png", r"https://example.org/plot.png is an address: download the image"),
        ("drawing.svg", r"drawing\.svg is no PNG, JPEG, GIF or WebP image"),
        (3, "image takes the path of one file"),
    ],
)
def test_m3_any_other_file_is_refused_by_name(filled, path, why):
    with pytest.raises(PianoError, match=rf"^\{{\{{image\(.*{why}"):
        filled(path)


def test_a_user_may_name_any_file(filled):
    assert filled("../key.png").attachments[0].content == png(9, 9)


@pytest.mark.parametrize("path", ["../key.png", "/etc/passwd.png", "link.png", "~/key.png", "sub/../../key.png"])
def test_m5_code_of_an_agent_names_images_of_the_workspace_only(filled, path):
    with redirect_output(io.StringIO()):
        with pytest.raises(PianoError, match="outside of the workspace"):
            filled(path)
        assert filled("plot.png").attachments
