"""However much is wrong with a request, what is said of it fits into the trailers of a call."""

import pytest
from google.rpc import error_details_pb2

from recollect.gateway.errors import CallError, InvalidCall, Precondition, Violation
from recollect.gateway.statuses import MAX_MESSAGE_BYTES, MAX_STATUS_BYTES, to_status


def details(status, kind):
    found = kind()
    assert any(detail.Unpack(found) for detail in status.details)
    return found


@pytest.mark.parametrize("length", [100, 300, 900, 50_000])
@pytest.mark.parametrize("number", [1, 5, 21, 1_000])
@pytest.mark.parametrize("letter", ["x", "ä", "\U0001f600"])
def test_a_status_keeps_within_its_size_and_says_what_it_leaves_out(letter, number, length):
    violations = [Violation(field=f"display[{at}]", description=letter * length) for at in range(number)]
    status = to_status(InvalidCall(violations))
    told = details(status, error_details_pb2.BadRequest).field_violations
    assert status.ByteSize() <= MAX_STATUS_BYTES
    assert [each.field for each in told] == [each.field for each in violations[: len(told)]]
    assert all(each.description.startswith(letter * 30) for each in told)
    left_out = f"(and {number - len(told)} more fields, not listed)"
    assert told[-1].description.endswith(left_out) == (len(told) < number)
    assert len(told) >= min(number, 9)


def test_what_fits_is_told_whole():
    violations = [Violation(field=f"f{at}", description="d" * 180) for at in range(20)]
    told = details(to_status(InvalidCall(violations)), error_details_pb2.BadRequest).field_violations
    assert [each.description for each in told] == ["d" * 180] * 20


def test_preconditions_and_messages_are_shortened_too():
    error = CallError("m" * 9_000)
    error.preconditions = [Precondition(kind="K", subject="s", description="p" * 900) for _ in range(50)]
    status = to_status(error)
    assert status.ByteSize() <= MAX_STATUS_BYTES
    assert len(status.message.encode()) == MAX_MESSAGE_BYTES
    told = details(status, error_details_pb2.PreconditionFailure).violations
    assert f"(and {50 - len(told)} more, not listed)" in told[-1].description
