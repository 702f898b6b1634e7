"""The store process is killed while four clients work: what they were told is kept is kept, once."""

from campaigns.server_kills import run_campaign


async def test_j20_what_is_acknowledged_is_kept_once_however_often_the_process_is_killed(tmp_path):
    assert await run_campaign(tmp_path / "piano.duckdb", kills=30, seed=0) > 30
