"""How many rows of which batches may be in flight, over all kernels, and behind chats."""

from uuid import UUID

import pytest

from piano_jupyter.batch_records import RowDemand
from piano_jupyter.store.row_leases import LEASE_S, TURN_S, RowLeases, ServerState

GPU = "http://gpu/v1"


class Server:
    """Batches that ask for rows on one server."""

    def __init__(self):
        self.time = 0.0
        self.leases = RowLeases(lambda: self.time)
        self.job_waits, self.at_work, self.loaded = False, [], None

    def ask(self, batch, in_flight=0, wanted=64, limit=8, model="m", owner="", server=GPU):
        demand = RowDemand(
            batch_id=UUID(int=batch),
            owner=owner or f"kernel {batch}",
            server=server,
            model=model,
            in_flight=in_flight,
            wanted=wanted,
            limit=limit,
        )
        state = ServerState(job_waits=self.job_waits, at_work=self.at_work, loaded=self.loaded, max_wait_s=60)
        return self.leases.grant(demand, model, state)


@pytest.fixture
def server():
    return Server()


def test_one_batch_has_all_the_room_but_that_of_chats(server):
    assert server.ask(1) == 8
    server.at_work = ["m"]
    assert server.ask(1, 8) == 7
    assert server.ask(1, 7, wanted=3) == 3


def test_r23_nothing_is_given_while_a_job_waits_and_all_again_after_it(server):
    assert server.ask(1) == 8
    server.job_waits = True
    assert server.ask(1, 8) == 0
    assert server.ask(1, 2) == 0
    server.job_waits = False
    assert server.ask(1, 0) == 8


def test_r24_batches_share_the_room_and_one_takes_what_another_does_not_want(server):
    assert server.ask(1) == 8
    assert server.ask(2) == 0  # all is in flight
    assert server.ask(1, 8) == 4
    assert server.ask(1, 4) == 4
    assert server.ask(2) == 4
    assert server.ask(2, 4, wanted=1) == 1
    assert server.ask(2, 1, wanted=1) == 1
    assert server.ask(1, 4) == 7
    assert server.ask(3, server="http://other/v1") == 8


def test_r24_more_batches_than_room_take_turns(server):
    assert server.ask(1, limit=1) == 1
    assert server.ask(2, limit=1) == 0
    server.time += TURN_S / 2
    assert server.ask(3, limit=1) == 0
    assert server.ask(1, 1, limit=1) == 1
    server.time += TURN_S / 2
    assert server.ask(1, 1, limit=1) == 0
    assert server.ask(1, 0, limit=1) == 0  # the others have waited longer
    assert server.ask(3, limit=1) == 0
    assert server.ask(2, limit=1) == 1
    server.time += TURN_S
    assert server.ask(2, 1, limit=1) == 0
    assert server.ask(2, 0, limit=1) == 0
    assert server.ask(3, limit=1) == 1


def test_on_a_server_that_swaps_models_rows_of_one_model_go_at_a_time(server):
    server.loaded = {"x"}
    assert server.ask(1, model="x") == 8
    assert server.ask(2, model="y") == 0
    for _ in range(15):
        assert server.ask(1, 8, model="x") == 8
        assert server.ask(2, model="y") == 0
        server.time += 4
    assert server.ask(1, 8, model="x") == 0  # the other has waited long enough
    assert server.ask(1, 0, model="x") == 0
    assert server.ask(2, model="y") == 8
    assert server.ask(1, model="x") == 0


def test_rows_wait_while_a_job_of_another_model_runs_on_a_server_that_swaps(server):
    server.loaded, server.at_work = {"y"}, ["y"]
    assert server.ask(1, model="x") == 0
    server.at_work = []
    assert server.ask(1, model="x") == 8
    assert server.leases.models_in_flight(GPU) == {"x"}


def test_r29_what_a_kernel_that_is_gone_had_is_free_again(server):
    assert server.ask(1) == 8
    assert server.ask(2) == 0
    assert server.leases.owners([GPU]) == {"kernel 1", "kernel 2"}
    server.leases.forget("kernel 1")
    assert server.ask(2) == 8

    server.time += LEASE_S  # and that of one that hangs
    assert server.leases.models_in_flight(GPU) == set()
    assert server.ask(3) == 8
    assert server.ask(3, 0, wanted=0) == 0
    assert server.leases.owners() == set()
