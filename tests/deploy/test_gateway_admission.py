"""Which calls are let in: by how long they would wait, as measured, and by how long they may."""

from contextlib import ExitStack, suppress

import pytest

from recollect.gateway.admission import Admission
from recollect.gateway.errors import Overloaded


@pytest.fixture
def admission(clock):
    return Admission(most_wait_s=0.105, threads=1, monotonic=clock)


class Calls:
    """Calls that are inside."""

    def __init__(self, admission, clock):
        self._admission, self._clock = admission, clock
        self._turns = []

    def come(self, count):
        for _ in range(count):
            turn = ExitStack()
            turn.enter_context(self._admission.turn())
            self._turns.append(turn)

    def answer_every(self, interval_s, *, rounds=500):
        """Two calls are inside, and as soon as one is answered another one comes."""
        self.come(2 - len(self._turns))
        for _ in range(rounds):
            self._clock.now += interval_s
            self.answer_first(1)
            self.come(1)

    def come_until_refused(self):
        """How many are inside once no more are let in, and the refusal."""
        with pytest.raises(Overloaded) as refused:
            self.come(100)
        return self._admission.inside, refused.value

    def answer_first(self, count):
        for _ in range(count):
            self._turns.pop(0).close()

    def answer_all(self):
        self.answer_first(len(self._turns))


@pytest.fixture
def calls(admission, clock):
    return Calls(admission, clock)


def test_as_many_are_let_in_as_get_their_turn_in_time(calls):
    calls.answer_every(0.01)
    inside, refusal = calls.come_until_refused()
    # At 10 ms an answer, and two at once, one more would wait 110 ms.
    assert inside == 12
    assert refusal.retry_after_s == pytest.approx(0.11)
    assert "this one would wait 110 ms for its turn, more than the 105 that it may" in str(refusal)
    calls.answer_all()
    calls.come(1)


def test_a_service_that_slows_down_lets_fewer_in(calls):
    calls.answer_every(0.01)
    calls.answer_every(0.04)
    assert calls.come_until_refused()[0] == 4


def test_a_pause_does_not_make_it_look_slow(calls):
    calls.answer_every(0.004)
    calls.answer_every(1.0, rounds=1)
    # The mean has doubled, to 8 ms, and not become 35.
    assert calls.come_until_refused()[0] == 15


def test_what_has_become_much_slower_is_seen_within_a_few_answers(calls):
    calls.answer_every(0.004)
    calls.answer_every(0.5, rounds=6)
    assert calls.come_until_refused()[0] == 3


def test_answers_that_come_together_count_by_their_number(admission, calls, clock):
    for _ in range(100):
        calls.come(17 - admission.inside)
        clock.now += 0.064
        calls.answer_first(16)
    calls.come(15)
    # 16 every 64 ms are one every 4 ms, the last ones of 0 ms count most.
    assert admission.expected_wait_s == pytest.approx(15 * 0.004, rel=0.25)


def test_a_call_that_must_be_answered_sooner_is_refused_sooner(admission, calls, clock):
    calls.answer_every(0.01)
    calls.come(5)
    with pytest.raises(Overloaded), admission.turn(until=clock.now + 0.03):
        pass
    with admission.turn(until=clock.now + 0.09):
        assert admission.inside == 8


def test_callers_who_give_up_do_not_make_it_look_fast(admission, calls):
    calls.answer_every(0.01)
    expected = admission.expected_wait_s
    for _ in range(100):
        with suppress(KeyboardInterrupt), admission.turn():
            raise KeyboardInterrupt
    assert admission.expected_wait_s == expected > 0
    assert admission.inside == 2


def test_a_service_that_was_slow_is_seen_to_be_fast_again(admission, calls):
    calls.answer_every(5.0)
    with pytest.raises(Overloaded):
        calls.come(1)
    calls.answer_every(0.001)
    calls.come(50)
    assert admission.inside == 52


def test_time_without_calls_is_no_slowness(admission, calls, clock):
    calls.answer_every(0.01)
    calls.answer_all()
    for _ in range(50):
        clock.now += 10.0
        with admission.turn():
            pass
    calls.come(10)
    assert admission.inside == 10
