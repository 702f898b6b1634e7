import pytest

from piano_jupyter.jupyter.render.formulas import MAX_FORMULAS
from piano_jupyter.jupyter.render.markdown_html import render


@pytest.mark.parametrize("text", ["$x^2$", r"\(x^2\)"])
def test_a_formula_in_a_line_becomes_mathml(text):
    html = render(f"a {text} b")

    assert html == '<p>a <math display="inline"><mrow><msup><mi>x</mi><mn>2</mn></msup></mrow></math> b</p>\n'


@pytest.mark.parametrize("text", ["$$x$$", "$$\nx\n$$", r"\[x\]", "\\[\n  x\n\\]"])
def test_a_formula_on_its_own_lines_is_displayed(text):
    assert render(f"a\n{text}\nb") == (
        '<p>a</p>\n<p><math display="block"><mrow><mi>x</mi></mrow></math></p>\n<p>b</p>\n'
    )


def test_lines_of_a_formula_are_not_taken_for_lists_or_headings():
    html = render("$$\na\n- b\n=\n+ c\n$$")

    assert html.count("<math") == 1
    assert "<li>" not in html


def test_a_formula_in_a_list_loses_the_indent():
    assert "<mo>+</mo><mi>b</mi></mrow></math>" in render("- see\n  $$\n  a\n  + b\n  $$\n- next")


@pytest.mark.parametrize("text", ["$5 and $6", "it costs 5$ or 6$.", r"\$x\$", "`$x$`", "a $ b $ c", "US$3/US$4"])
def test_money_and_code_are_not_formulas(text):
    assert "<math" not in render(text)


@pytest.mark.parametrize("latex", [r"\frac", "{" * 900, r"\left(" * 200, "a_b_c", r"\begin{matrix}" * 50])
def test_a_formula_that_cannot_be_read_is_shown_as_it_was_written(latex):
    html = render(f"${latex}$")

    assert html.startswith(f"<p><code>${latex[:5]}")


@pytest.mark.parametrize(
    ("latex", "kept"),
    [
        (r"\href{javascript:alert(1)}{x}", "<mrow><mrow><mi>x</mi></mrow></mrow>"),
        (r"\style{position:fixed}{x}", "<mrow><mi>x</mi></mrow>"),
        (r"\class{k}{x}", "<mrow><mi>x</mi></mrow>"),
        (r"\color{white}{x}", "<mstyle><mrow><mi>x</mi></mrow></mstyle>"),
        (r"\hspace{-900em}", "<mspace></mspace>"),
        (r"\hspace{2em}", '<mspace width="2em"></mspace>'),
        (r"\text{<img src=x onerror=alert(1)>}", "<mtext></mtext>"),
        (r"\text{</mtext></math><h1>x</h1>}", "<mtext></mtext>"),
    ],
)
def test_g1_a_formula_has_only_the_markup_of_formulas(latex, kept):
    html = render(f"${latex}$")

    assert html.startswith(f'<p><math display="inline"><mrow>{kept}</mrow></math>')
    assert "<h1>" not in html


def test_g6_formulas_beyond_the_limit_stay_text():
    html = render("$x$ " * (MAX_FORMULAS + 5))

    assert (html.count("<math"), html.count("<code>$x$</code>")) == (MAX_FORMULAS, 5)
