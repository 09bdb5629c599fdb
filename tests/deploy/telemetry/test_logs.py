"""Lines of log reach the process that was started whole, with the call they are of, and no line is lost."""

import io
import json
import logging
import subprocess
import sys
import textwrap
from datetime import UTC, datetime

import pytest
from redis import Redis

from recollect.gateway.request_ids import request_id
from recollect.telemetry.current import Call, current
from recollect.telemetry.log_relay import LogRelay, RelayHandler
from recollect.telemetry.logs import JsonFormatter, LogConfig, TextFormatter, default_format, write_logs
from recollect_api import Event


def record(message, *given, level=logging.WARNING, **fields):
    made = logging.LogRecord("recollect.part", level, __file__, 1, message, given, None)
    made.__dict__.update(fields)
    return made


@pytest.fixture
def in_a_call():
    tokens = request_id.set('r"1\nX'), current.set(Call("Recommender/Score", trace_id="ab" * 16))
    yield
    request_id.reset(tokens[0])
    current.reset(tokens[1])


def test_json_is_one_line_whatever_is_in_it(in_a_call):
    line = JsonFormatter().format(record("of %r\n%s", "one", {"two"}, fields={"code": "OK", "path": object}))
    assert "\n" not in line
    told = json.loads(line)
    assert told["message"] == "of 'one'\n{'two'}"
    assert (told["request_id"], told["method"], told["trace_id"]) == ('r"1\nX', "Recommender/Score", "ab" * 16)
    assert (told["level"], told["logger"], told["code"]) == ("warning", "recollect.part", "OK")
    assert told["time"].endswith("+00:00")


def test_outside_of_calls_nothing_is_made_up():
    told = json.loads(JsonFormatter().format(record("started")))
    assert set(told) == {"time", "level", "logger", "message", "process"}


def test_text_names_the_call_in_one_line(in_a_call):
    line = TextFormatter().format(record("slow"))
    assert line.endswith(r'WARNING recollect.part: slow [request "r\"1\nX"]')
    assert "\n" not in line


@pytest.mark.parametrize("formatter", [JsonFormatter(), TextFormatter()], ids=["json", "text"])
def test_users_in_keys_of_redis_are_left_out(gateway, client, redis_server, formatter):
    """What the history store says of a key is for who looks at Redis; the log is read by others."""
    user = "very}: secret,\nuser"
    with Redis.from_url(redis_server.url) as admin:
        admin.set(gateway.store.key_of(user), "no history")
    lines = []
    handler = logging.Handler()
    handler.emit = lambda each: lines.append(formatter.format(each))
    logging.getLogger("recollect").addHandler(handler)
    try:
        client.score(user, [1])
        for refused in (
            lambda: client.append(user, [Event(item_id=1, time=datetime.now(UTC))]),
            lambda: client.list_history(user),
        ):
            with pytest.raises(Exception, match="log has the reason"):
                refused()
    finally:
        logging.getLogger("recollect").removeHandler(handler)
    whole = "\n".join(lines)
    assert whole.count("HISTORYFORMAT") >= 3
    assert whole.count("recollect:history:{user}") >= 2
    assert "secret" not in whole


def test_an_error_brings_its_trace():
    try:
        raise RuntimeError("why")
    except RuntimeError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    assert "RuntimeError: why" in json.loads(JsonFormatter().format(made))["trace"]


def test_the_default_is_text_for_people_and_json_for_programs(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    assert default_format() == "text"
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert default_format() == "json"


WRITER = """
    import logging, sys
    from pathlib import Path
    from recollect.telemetry.logs import LogConfig, write_logs

    relay = Path(sys.argv[1])
    for _ in range(2):  # again is no second line
        write_logs(LogConfig(format="json", level="info", relay=relay))
    log = logging.getLogger("recollect.part")
    for at in range(int(sys.argv[2])):
        log.info("line %d of %s: %s", at, sys.argv[3], "é" * 500)
    log.debug("too little")
    logging.getLogger("other").info("not ours")
    logging.getLogger("other").warning("not ours, and wrong: %s", sys.argv[3])
    log.warning("long %s", "x" * 100_000)
"""


def test_all_processes_write_through_one(capfd):
    with LogRelay() as relay:
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(WRITER), str(relay.path), "300", name],
                stderr=subprocess.PIPE,
                text=True,
            )
            for name in ("one", "two")
        ]
        own = [writer.communicate(timeout=60)[1] for writer in writers]
    relayed = capfd.readouterr().err.splitlines()
    for name, beside in zip(("one", "two"), own, strict=True):
        # A line that the relay had no room for, or that is too long for it, is in the process's own.
        lines = [json.loads(line) for line in (*relayed, *beside.splitlines())]
        mine = [line["message"] for line in lines if f" of {name}:" in line["message"]]
        assert sorted(int(message.split()[1]) for message in mine) == list(range(300))
        assert f"not ours, and wrong: {name}" in {line["message"] for line in lines}
        assert [len(line["message"]) for line in map(json.loads, beside.splitlines()) if "long" in line["message"]] == [
            100_005
        ]
    assert len(relayed) > 300
    assert not any("too little" in line for line in relayed)
    assert not relay.path.parent.exists()


def test_where_nobody_takes_lines_they_are_written_here(tmp_path):
    lines = io.StringIO()
    handler = RelayHandler(tmp_path / "nobody", otherwise=logging.StreamHandler(lines))
    handler.emit(record("still told"))
    handler.close()
    assert lines.getvalue() == "still told\n"


def test_the_log_of_this_process_can_be_set_again():
    root = logging.getLogger()
    before = list(root.handlers), root.level, logging.getLogger("recollect").level
    try:
        write_logs(LogConfig(format="text", level="error"))
        write_logs(LogConfig(format="json", level="info"))
        added = [each for each in root.handlers if each not in before[0]]
        assert [type(each.formatter) for each in added] == [JsonFormatter]
        assert logging.getLogger("recollect.calls").isEnabledFor(logging.INFO)
        assert not logging.getLogger("elsewhere").isEnabledFor(logging.INFO)
    finally:
        for each in [each for each in root.handlers if each not in before[0]]:
            root.removeHandler(each)
        root.setLevel(before[1])
        for name in ("recollect", "recsys", "retrieval"):
            logging.getLogger(name).setLevel(before[2])
