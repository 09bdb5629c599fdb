"""`recollect descriptors` as a person uses it, with a real endpoint on a local port."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from recollect.cli.descriptors import descriptors_app

KEY = "sk-a-key-that-nobody-may-see"
BIRDS = {
    "kingfisher": ["a small bird", "bright blue wings", "often sits on a branch"],
    "grey heron": ["a tall bird", "long grey neck", "can stand on one leg"],
}


class Endpoint(BaseHTTPRequestHandler):
    """Knows two birds and one key; says anything else back, the key included."""

    def do_POST(self):
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = re.findall(r"distinguishing a (.*) in a photo", question["messages"][0]["content"])[-1]
        said = "\n".join(f"- {each}" for each in BIRDS.get(name, []))
        content = {"choices": [{"message": {"content": said}, "finish_reason": "stop"}]}
        accepted = self.headers["Authorization"] == f"Bearer {KEY}"
        self.send_response(200 if accepted else 401)
        self.end_headers()
        self.wfile.write(json.dumps(content if accepted else dict(self.headers)).encode())

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """A client that has gone is no news."""


@pytest.fixture(scope="module")
def url():
    with Server(("127.0.0.1", 0), Endpoint) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


@pytest.fixture
def say(tmp_path, monkeypatch):
    """Run `recollect descriptors …` in a directory of its own, with nothing configured but the key."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("RECOLLECT_LLM_API_KEY", KEY)
    for name in ("RECOLLECT_CONFIG", "RECOLLECT_LLM_BASE_URL", "RECOLLECT_LLM_MODEL"):
        monkeypatch.delenv(name, raising=False)

    def run(*words, status=0):
        result = CliRunner().invoke(descriptors_app, [str(word) for word in words])
        assert result.exit_code == status, (result.output, result.exception)
        assert KEY not in result.output
        return result

    return run


@pytest.fixture
def birds(tmp_path):
    path = tmp_path / "birds.txt"
    path.write_text("# two of them\nkingfisher\n\ngrey heron\n")
    return path


@pytest.fixture
def mine(tmp_path):
    """A set with something to mend."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"kingfisher": ["orange breast", "Orange  breast"], "wren": []}))
    return path


def test_shipped_sets_are_listed(say):
    grocery = [
        row for line in say("list", "--json").stdout.splitlines() if (row := json.loads(line))["name"] == "grocery"
    ]
    assert grocery[0]["classes"] == 81
    assert grocery[0]["descriptors"] > 5 * 81
    assert "grocery" in say("list").stdout


def test_a_set_is_shown_as_a_text_encoder_reads_it(say, mine):
    assert "kingfisher, which has orange breast" in say("show", mine).stdout
    (line,) = say("show", mine, "--class", "Kingfisher", "--json").stdout.splitlines()
    assert json.loads(line) == {
        "class": "kingfisher",
        "descriptors": ["orange breast", "Orange  breast"],
        "texts": ["kingfisher, which has orange breast"],
    }
    assert "no class 'eagle'" in say("show", mine, "--class", "eagle", status=1).stderr


def test_a_set_that_is_not_there_is_told_with_those_that_are(say):
    assert "grocery" in say("show", "no-such-set", status=1).stderr


def test_what_an_author_should_mend_is_told_and_fails(say, mine):
    assert "'kingfisher' repeats" in say("check", mine, status=1).stdout
    found = [json.loads(line) for line in say("check", mine, "--json", status=1).stdout.splitlines()]
    assert [(each["kind"], each["class"]) for each in found] == [
        ("repeated descriptor", "kingfisher"),
        ("no descriptors", "wren"),
    ]


def test_the_shipped_grocery_set_has_nothing_to_mend(say):
    assert say("check", "grocery").stdout == "grocery: 81 classes, nothing to mend\n"


def test_descriptors_are_generated_beside_the_list_and_kept(say, url, birds, tmp_path):
    words = ["generate", "--classes", birds, "--base-url", url, "--model", "a-model"]
    assert re.search(r"generated\W+2\b", say(*words).stdout)
    path = tmp_path / "birds.descriptors.json"
    content = json.loads(path.read_text())
    assert (content["name"], content["classes"]) == ("birds", BIRDS)
    content["classes"]["kingfisher"].append("orange breast")
    path.write_text(json.dumps(content))
    report = json.loads(say(*words, "--refresh", "--json").stdout)
    assert report == {
        "path": str(path),
        "generated": ["grey heron"],
        "kept": [],
        "hand_made": ["kingfisher"],
        "failed": {},
    }
    assert json.loads(path.read_text())["classes"]["kingfisher"][-1] == "orange breast"
    assert "grey heron, which can stand on one leg" in say("show", path).stdout


def test_classes_that_fail_are_named_and_the_others_saved(say, url, tmp_path, monkeypatch):
    monkeypatch.setenv("RECOLLECT_LLM_BASE_URL", url)
    monkeypatch.setenv("RECOLLECT_LLM_MODEL", "a-model")
    classes, path = tmp_path / "classes.json", tmp_path / "out.json"
    classes.write_text('["dodo", "kingfisher"]')
    told = say("generate", "--classes", classes, "--output", path, status=1)
    assert re.search(r"failed\W+1\b", told.stdout)
    assert "dodo: a-model listed 0 descriptors of 'dodo'" in told.stderr
    assert list(json.loads(path.read_text())["classes"]) == ["kingfisher"]
    report = json.loads(say("generate", "--classes", classes, "--output", path, "--json", status=1).stdout)
    assert (report["kept"], list(report["failed"])) == (["kingfisher"], ["dodo"])


def test_a_key_that_is_not_accepted_is_told_and_not_shown(say, url, birds, tmp_path, monkeypatch):
    wrong = f"{KEY}-but-wrong"
    monkeypatch.setenv("RECOLLECT_LLM_API_KEY", wrong)
    told = say("generate", "--classes", birds, "--base-url", url, "--model", "a-model", status=1)
    assert "answered 401" in told.stderr
    assert "RECOLLECT_LLM_API_KEY" in told.stderr
    assert "***" in told.stderr
    assert not (tmp_path / "birds.descriptors.json").exists()


def test_an_endpoint_may_be_configured_in_a_file(say, url, birds, tmp_path, monkeypatch):
    config = tmp_path / "recollect.toml"
    config.write_text(f'llm_base_url = "{url}"\nllm_model = "a-model"\nllm_api_key = "{KEY}"\n')
    monkeypatch.delenv("RECOLLECT_LLM_API_KEY")
    monkeypatch.setenv("RECOLLECT_CONFIG", str(config))
    assert json.loads(say("generate", "--classes", birds, "--json").stdout)["generated"] == list(BIRDS)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        pytest.param([], "llm_base_url and llm_model not set", id="nothing"),
        pytest.param(["--base-url", "http://127.0.0.1/v1"], "RECOLLECT_LLM_MODEL", id="no model"),
        pytest.param(["--model", "a-model"], "RECOLLECT_LLM_BASE_URL", id="no address"),
    ],
)
def test_what_is_not_configured_is_told(say, birds, words, told):
    assert told in say("generate", "--classes", birds, *words, status=1).stderr
