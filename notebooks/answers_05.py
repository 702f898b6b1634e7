"""What the model says in `05_the_panel.ipynb`: written by hand, for a scripted server that plays the model."""

CHECKS = """I would look at two columns first:

| column | what looks odd |
| --- | --- |
| `amount` | one value is negative: a refund, or a wrong sign |
| `country` | `FR` and `fr` are the same country, written in two ways |

The dates are complete and in order."""
CLEANED = """```python
orders["country"] = orders["country"].str.upper()
refunds = orders[orders["amount"] < 0]
```

Whether a negative amount is a refund is for you to say, so it stays in the table."""
AGAIN = """First the countries, then the negative amounts, in a table of their own:

```python
orders = orders.assign(country=orders["country"].str.upper())
refunds = orders.query("amount < 0")
```"""
ANSWERS = [CHECKS, CLEANED, AGAIN]
