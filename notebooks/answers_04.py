"""What the model says in `04_errors_and_plots.ipynb`: written by hand, for a scripted server that plays the model.

The small model of the other notebooks sees no images and draws no plots.
"""

from piano_jupyter.testing import tool_call

EXPLAINED = (
    'The price of `"milk"` is the text `"1.9"`, while the other prices are numbers. `total += prices[item]` works for '
    "tea; for milk, Python is asked to add a text to a float, which it refuses. Make it a number: `1.9`."
)
FIXED = """The price of milk was a text instead of a number.

```python
prices = {"tea": 2.5, "bread": 3.2, "milk": 1.9}
total = 0.0
for item in ["tea", "milk"]:
    total += prices[item]
total
```"""
PLOT = """
fig, ax = plt.subplots(figsize=(4.8, 2.8))
ax.bar(sales["month"], sales["cups"], color="#7a9cc6")
ax.set_title("Cups of tea sold, this year")
ax.set_xlabel("month")
ax.set_ylabel("cups")
fig.tight_layout()
plt.show()
""".strip()
LOOKED = (
    "April (month 4) needs a second look: 58 cups, while the months around it have 119 and 131. The other months rise "
    "steadily, from 102 to 140."
)
DRAWN = "Here is the plot. The cups rise from month to month, with one dip in April."
COMPARED = (
    "In the picture of last year, April falls to about 60 cups between two months of more than 110. This year it does "
    "so again: 58 cups, between 119 and 131. It comes back each April, so look for a cause that does, too: a holiday, "
    "or a stocktaking."
)
ANSWERS = [EXPLAINED, FIXED, LOOKED, tool_call("run_python", code=PLOT), DRAWN, COMPARED]
