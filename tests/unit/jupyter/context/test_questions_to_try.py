import pytest

from piano_jupyter.jupyter.context.questions_to_try import FOR_ANYBODY, questions_to_try

pd = pytest.importorskip("pandas")


def test_without_variables_there_are_three_questions_for_anybody():
    assert questions_to_try({"x": 1}, has_failed=False) == list(FOR_ANYBODY)


def test_a_data_frame_and_an_error_are_offered_where_there_are_some():
    variables = {"old": pd.DataFrame(), "n": 3, "sales": pd.DataFrame({"price": [1]}), "_1": pd.DataFrame()}

    both, only_error = questions_to_try(variables, has_failed=True), questions_to_try({}, has_failed=True)

    assert both[0] == only_error[0] == FOR_ANYBODY[0]
    assert both[1:] == [
        "Describe {{sales}} and say what looks odd in it.",
        "Explain this error, and how to fix it: {{error}}",
    ]
    assert only_error[1:] == ["Explain this error, and how to fix it: {{error}}", FOR_ANYBODY[1]]
