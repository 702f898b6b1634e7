"""`{{image("plot.png")}}`: the file of an image as an attachment of the question."""

from typing import Any

from piano_jupyter.agent_code import in_agent_code
from piano_jupyter.attachments.attachment import Attachment
from piano_jupyter.attachments.given import image_file
from piano_jupyter.errors import PianoError
from piano_jupyter.variables.frame_methods import SpecialFunction


def image_function(workspace: str) -> SpecialFunction:
    """Return the function `image`; where code of an agent asks, it takes files of the workspace only."""

    def image(*paths: Any, **_named: Any) -> Attachment:
        match paths:
            case [str(path)] if not _named:
                return image_file(path, workspace=workspace, only_beneath=in_agent_code())
        raise PianoError('image takes the path of one file, as in image("plot.png")')

    return SpecialFunction(image)
