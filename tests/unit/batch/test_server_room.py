"""ServerRoom: bounded, smaller after a busy answer, larger again with each answer."""

import asyncio

import pytest

from piano_jupyter.batch.server_room import DOWN_S, ServerRoom


class FakeClock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


async def test_no_more_than_its_size_are_inside():
    room, inside, most = ServerRoom(3), 0, 0

    async def visit():
        nonlocal inside, most
        async with room.place():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(visit() for _ in range(50)))

    assert (most, room.load) == (3, 0.0)


async def test_busy_answers_halve_the_room_once_for_those_that_were_in_flight_together(clock):
    room = ServerRoom(64, clock)
    for _ in range(40):
        room.busy(2.0)
    assert room.allowed == 32

    for _ in range(10):
        clock.now += 3.0
        room.busy(2.0)
    assert room.allowed == 1

    for _ in range(64 * 64):
        room.answered()
    assert room.allowed == 64


async def test_nothing_is_sent_until_the_pause_is_over(clock):
    room = ServerRoom(2, clock)
    room.busy(0.01)
    waiting = asyncio.create_task(room.place().__aenter__())
    assert not (await asyncio.wait([waiting], timeout=0.05))[0]  # the clock stands still
    clock.now += 1.0
    async with asyncio.timeout(5):
        await waiting

    assert room.load == 0.5


async def test_a_cancelled_visitor_leaves_its_place():
    room = ServerRoom(1)
    async with room.place():
        waiting = asyncio.create_task(room.place().__aenter__())
        await asyncio.sleep(0)
        waiting.cancel()
    async with asyncio.timeout(5), room.place():
        assert room.load == 1.0


def test_a_server_that_does_not_answer_is_down_for_a_while(clock):
    room = ServerRoom(1, clock)
    room.down()
    assert room.is_down
    clock.now += DOWN_S
    assert not room.is_down
    room.down()
    room.answered()
    assert not room.is_down
