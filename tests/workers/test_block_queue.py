"""Every block is sent once, whoever comes and goes, and a worker's blocks are neighbours."""

from hypothesis import given
from hypothesis import strategies as st

from geosegsr.workers.block_queue import Stretches


@given(st.integers(0, 60), st.data())
def test_every_block_is_sent_whoever_is_there(number: int, data: st.DataObject) -> None:
    stretches, sent = Stretches(range(number)), []
    while len(stretches):
        if data.draw(st.booleans()):
            stretches.keep(data.draw(st.sets(st.sampled_from("abc"))))
        index = stretches.next_for(data.draw(st.sampled_from("abc")))
        if data.draw(st.integers(0, 9)) == 0:
            stretches.put_back(index)
        else:
            sent.append(index)
    assert sorted(sent) == list(range(number))


def test_workers_of_one_speed_work_on_stretches() -> None:
    stretches = Stretches(range(100))
    sent = {worker: [] for worker in "ab"}
    while len(stretches):
        for worker in "ab"[: len(stretches)]:
            sent[worker].append(stretches.next_for(worker))
    assert sent == {"a": list(range(50)), "b": list(range(50, 100))}


def test_one_that_joins_late_takes_half_of_what_is_left() -> None:
    stretches = Stretches(range(100))
    first = [stretches.next_for("a") for _ in range(20)]
    assert first == list(range(20))
    assert stretches.next_for("b") == 60


def test_what_one_leaves_behind_goes_to_the_next() -> None:
    stretches = Stretches(range(10))
    assert [stretches.next_for("a") for _ in range(3)] == [0, 1, 2]
    assert stretches.next_for("b") == 6
    stretches.keep(["b"])
    assert stretches.next_for("c") == 3
    stretches.put_back(6)
    assert stretches.next_for("c") == 6
