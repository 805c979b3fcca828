"""Every block is sent once, whoever comes and goes, and a worker's blocks are neighbours."""

from hypothesis import given
from hypothesis import strategies as st

from geosegsr.workers.block_queue import BlockQueue


@given(st.integers(0, 60), st.data())
def test_every_block_is_sent_whoever_is_there(number: int, data: st.DataObject) -> None:
    blocks, sent = BlockQueue(range(number)), []
    while len(blocks):
        if data.draw(st.booleans()):
            blocks.retain(data.draw(st.sets(st.sampled_from("abc"))))
        index = blocks.next_for(data.draw(st.sampled_from("abc")))
        if data.draw(st.integers(0, 9)) == 0:
            blocks.put_back(index)
        else:
            sent.append(index)
    assert sorted(sent) == list(range(number))


def test_workers_of_one_speed_get_neighbouring_blocks() -> None:
    blocks = BlockQueue(range(100))
    sent = {worker: [] for worker in "ab"}
    while len(blocks):
        for worker in "ab"[: len(blocks)]:
            sent[worker].append(blocks.next_for(worker))
    assert sent == {"a": list(range(50)), "b": list(range(50, 100))}


def test_one_that_joins_late_takes_half_of_what_is_left() -> None:
    blocks = BlockQueue(range(100))
    first = [blocks.next_for("a") for _ in range(20)]
    assert first == list(range(20))
    assert blocks.next_for("b") == 60


def test_what_one_leaves_behind_goes_to_the_next() -> None:
    blocks = BlockQueue(range(10))
    assert [blocks.next_for("a") for _ in range(3)] == [0, 1, 2]
    assert blocks.next_for("b") == 6
    blocks.retain(["b"])
    assert blocks.next_for("c") == 3
    blocks.put_back(6)
    assert blocks.next_for("c") == 6
