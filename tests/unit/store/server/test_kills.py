"""The store process and kernels are killed while four notebooks work: what they were told is kept, and happens once."""

from campaigns.kills import run_campaign


async def test_j20_nothing_is_lost_or_done_twice_however_often_processes_are_killed(tmp_path):
    assert await run_campaign(tmp_path, kills=50, seed=0) > 50


async def test_a_kernel_that_was_stopped_in_the_middle_of_a_turn_does_nothing_that_another_does_now(tmp_path):
    assert await run_campaign(tmp_path, kills=6, seed=1, freezes=1) > 6
