"""One question for each row of a table: the prompt, the answers, and the table with the answers as columns.

`Asker` asks and knows neither a store nor an engine: it works in a script of its own as it does below `Piano.map`.
"""

from piano_jupyter.batch.asker import Asker
from piano_jupyter.batch.frames import open_frame, rows_of, with_answers
from piano_jupyter.batch.row_answer import RowAnswer
from piano_jupyter.batch.row_key import row_key
from piano_jupyter.batch.row_template import RowTemplate

__all__ = ["Asker", "RowAnswer", "RowTemplate", "open_frame", "row_key", "rows_of", "with_answers"]
