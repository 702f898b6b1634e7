"""How records look in a cell, beside `display.py`: tables, cards, figures, a line each."""
