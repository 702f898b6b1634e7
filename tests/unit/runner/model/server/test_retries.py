"""When a request is retried, and after which pause."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from piano_jupyter.errors import ModelError
from piano_jupyter.runner.model.server.retries import (
    MAX_PAUSE_S,
    WAIT_PAUSE_S,
    RetryBudget,
    TransientError,
    retry_after,
)

BUSY = ModelError("busy")


def test_h14_pauses_double_and_differ_a_little():
    def pauses():
        retries = RetryBudget(4)
        return [retries.pause(TransientError(BUSY)) for _ in range(4)]

    several = [pauses() for _ in range(20)]

    for at, usual in enumerate((0.3, 0.6, 1.2, 2.4)):
        assert all(usual * 0.5 <= each[at] <= usual * 1.5 for each in several)
        assert len({each[at] for each in several}) > 1


def test_h14_a_servers_own_pause_is_kept_but_not_for_ever():
    assert 2 <= RetryBudget(1).pause(TransientError(BUSY, 2)) <= 2.2
    assert RetryBudget(1).pause(TransientError(BUSY, 3600)) == MAX_PAUSE_S


@pytest.mark.parametrize("allowed", [0, 1, 3])
def test_h14_before_an_answer_begins_it_is_retried_as_often_as_the_setting_says(allowed):
    retries = RetryBudget(allowed)

    for _ in range(allowed):
        retries.pause(TransientError(BUSY))

    with pytest.raises(ModelError, match="busy"):
        retries.pause(TransientError(BUSY))


def test_h14_in_the_middle_it_is_retried_once_whatever_the_setting_says():
    retries = RetryBudget(9)
    retries.answer_started = True

    retries.pause(TransientError(BUSY))

    with pytest.raises(ModelError, match="busy"):
        retries.pause(TransientError(BUSY))


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [
        ("7", 7, 7),
        ("0.5", 0.5, 0.5),
        ("99999", MAX_PAUSE_S, MAX_PAUSE_S),
        ("-3", 0, 0),
        ("nan", 0, 0),
        ("soon", 0, 0),
        ("", 0, 0),
    ],
)
def test_h14_a_servers_retry_after_may_be_a_number(said, least, most):
    assert least <= retry_after({"retry-after": said}) <= most


@pytest.mark.parametrize(("seconds", "least", "most"), [(20, 5, 20), (-20, 0, 0), (10**6, MAX_PAUSE_S, MAX_PAUSE_S)])
def test_h14_a_servers_retry_after_may_be_a_date(seconds, least, most):
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)

    assert least <= retry_after({"retry-after": date}) <= most


def test_a_server_that_is_starting_is_waited_for_however_many_requests_that_takes():
    seconds = [0.0]
    retries = RetryBudget(1, lambda: seconds[0])
    starting = TransientError(BUSY, wait_s=30)

    for at in range(30):
        seconds[0] = float(at)
        assert retries.pause(starting) == WAIT_PAUSE_S
    seconds[0] = 30.0
    retries.pause(starting)  # the usual retry
    with pytest.raises(ModelError, match="busy"):
        retries.pause(starting)


def test_with_no_retries_nothing_is_waited_for():
    with pytest.raises(ModelError, match="busy"):
        RetryBudget(0).pause(TransientError(BUSY, wait_s=30))
