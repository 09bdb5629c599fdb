"""Generation against a real endpoint: what is asked and read, what is resumed, and what of a person's work is kept."""

import asyncio
import json
import threading
from dataclasses import replace

import pytest

from retrieval.descriptors.descriptor_set import load_descriptor_set, save_descriptor_set
from retrieval.descriptors.generation import (
    GenerationConfig,
    Outcome,
    descriptors_in,
    digest_of,
    generate_descriptors,
    prompt_for,
    read_class_names,
)
from retrieval.descriptors.language_model import Answer, EndpointError, LanguageModel, Patience
from retrieval.errors import DescriptorError, GenerationError

BIRDS = ["owl", "wren", "heron"]


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "birds.json"


@pytest.fixture
def generate(chat, path):
    """Generate into `path` with `chat`, which answers every class unless its script says otherwise."""

    def run(class_names=BIRDS, *, model="a-model", in_flight=4, **options):
        for name in class_names:
            chat.by_class.setdefault(name, [chat.said(listed(name, model))])

        async def go():
            async with LanguageModel(chat.url, model, patience=Patience(attempts=1)) as language_model:
                config = GenerationConfig(in_flight=in_flight)
                return await generate_descriptors(class_names, path, language_model, config=config, **options)

        return asyncio.run(go())

    return run


def features(name, model="a-model"):
    return [f"beak of {name}", f"wings of {name}", f"{name} seen by {model}"]


def listed(name, model="a-model"):
    return "\n".join(f"- {each}" for each in features(name, model))


def written(path):
    return json.loads(path.read_text())["classes"]


def edit(path, **classes):
    """What a person does with an editor: change lists, None takes the class out."""
    content = json.loads(path.read_text())
    content["classes"] = {
        name: descriptors for name, descriptors in {**content["classes"], **classes}.items() if descriptors is not None
    }
    path.write_text(json.dumps(content))


def test_the_question_comes_after_two_worked_examples():
    prompt = prompt_for("Golden-Delicious_apple")
    lines = prompt.splitlines()
    questions = [line for line in lines if line.startswith("Q: ")]
    assert questions[-1] == "Q: What are useful features for distinguishing a Golden Delicious apple in a photo?"
    assert len(questions) == 3
    assert lines[-1] == (
        "A: There are several useful visual features to tell there is a Golden Delicious apple in a photo:"
    )
    examples = prompt.split("Q: ")[1:3]
    assert all(sum(line.startswith("- ") for line in example.splitlines()) >= 5 for example in examples)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("- a beak\n- two legs", ["a beak", "two legs"], id="dashes"),
        pytest.param("• a beak\n* two legs\n– long tail", ["a beak", "two legs", "long tail"], id="other bullets"),
        pytest.param("1. a beak\n2) two legs", ["a beak", "two legs"], id="numbers"),
        pytest.param("Sure! Here you are:\n\n  - a beak\n\nAnything else?", ["a beak"], id="talk around"),
        pytest.param(
            "- **Beak**: long and `thin`.\n-  two   legs ;", ["Beak: long and thin", "two legs"], id="markdown"
        ),
        pytest.param("- a beak\n- A  Beak\n- two legs", ["a beak", "two legs"], id="said twice"),
        pytest.param("- grey heron\n- a Grey-Heron.\n- Grey heron neck", ["Grey heron neck"], id="its own name"),
        pytest.param("- \n-\n- **\n- a beak", ["a beak"], id="empty entries"),
        pytest.param(f"- {'very ' * 12}long\n- a beak", ["a beak"], id="too long"),
        pytest.param("- a\u2028beak\x00 and\ttail", ["a beak and tail"], id="control characters"),
        pytest.param("-beak\n10:30 - noon\n--- \n3.5 m tall", [], id="what only looks like a list"),
        pytest.param("<think>\n- no, a hawk\n</think>\n- a beak", ["a beak"], id="thinking aloud"),
        pytest.param("<think>\n- no, a hawk", [], id="thinking without end"),
        pytest.param("I cannot help with that.", [], id="no list"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_descriptors_are_read_from_a_list(text, found):
    assert list(descriptors_in(Answer(text=text, complete=True), "grey-heron", GenerationConfig())) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        pytest.param("- a beak\n- two le", ["a beak"], id="in an entry"),
        pytest.param("- a beak\n- two legs\n", ["a beak", "two legs"], id="between entries"),
        pytest.param("- a be", [], id="in the only entry"),
    ],
)
def test_the_entry_that_was_cut_is_left_out(text, found):
    assert list(descriptors_in(Answer(text=text, complete=False), "heron", GenerationConfig())) == found


def test_an_endless_list_is_kept_short():
    text = "\n".join(f"- feather {number}" for number in range(500))
    found = descriptors_in(Answer(text=text, complete=True), "heron", GenerationConfig(most=5))
    assert found == ("feather 0", "feather 1", "feather 2", "feather 3", "feather 4")


def test_a_set_is_written_with_where_it_came_from(path, generate):
    report = generate()
    assert json.loads(path.read_text()) == {
        "format": "recollect-descriptors/1",
        "name": "birds",
        "prefix": "",
        "suffix": "",
        "classes": {name: features(name) for name in BIRDS},
        "generated": {name: {"model": "a-model", "digest": digest_of(features(name))} for name in BIRDS},
    }
    assert report.outcomes == dict.fromkeys(BIRDS, Outcome.GENERATED)
    assert load_descriptor_set(path).problems() == []


def test_the_file_has_the_order_of_the_list_whichever_answer_comes_first(chat, path, generate):
    wren_is_there = threading.Event()
    chat.by_class["owl"] = [replace(chat.said(listed("owl")), before=lambda: wren_is_there.wait(20))]
    done = []

    def on_class(name, outcome):
        done.append(name)
        if name == "wren":
            wren_is_there.set()

    generate(["owl", "wren"], on_class=on_class)
    assert done == ["wren", "owl"]
    assert list(written(path)) == ["owl", "wren"]


def test_as_many_questions_are_under_way_as_allowed(chat, generate):
    """Each answer waits until two questions are there; a third at the same time would be counted."""
    pair, lock, under_way, most = threading.Barrier(2, timeout=20), threading.Lock(), [0], [0]

    def meet():
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        pair.wait()
        with lock:
            under_way[0] -= 1

    names = [f"bird {number}" for number in range(6)]
    chat.by_class = {name: [replace(chat.said(listed(name)), before=meet)] for name in names}
    assert set(generate(names, in_flight=2).outcomes.values()) == {Outcome.GENERATED}
    assert most == [2]


def test_a_run_that_was_stopped_goes_on_where_it_was(chat, path, generate):
    def stop_after_two(name, outcome):
        if name == "wren":
            raise InterruptedError("the machine went away")

    with pytest.raises(InterruptedError):
        generate(in_flight=1, on_class=stop_after_two)
    assert list(written(path)) == ["owl", "wren"]
    assert [each for each in path.parent.iterdir() if each != path] == []
    chat.asked.clear()
    report = generate()
    assert chat.classes_asked == ["heron"]
    assert report.outcomes == {"owl": Outcome.KEPT, "wren": Outcome.KEPT, "heron": Outcome.GENERATED}
    assert written(path) == {name: features(name) for name in BIRDS}


def test_nothing_is_asked_when_nothing_is_missing(chat, path, generate):
    generate()
    before = path.read_bytes()
    chat.asked.clear()
    generate()
    assert chat.asked == []
    assert path.read_bytes() == before


def test_refresh_asks_again_and_says_which_model_answered(chat, path, generate):
    generate()
    chat.by_class.clear()
    generate(model="another", refresh=True)
    assert written(path) == {name: features(name, "another") for name in BIRDS}
    assert {each["model"] for each in json.loads(path.read_text())["generated"].values()} == {"another"}


@pytest.mark.parametrize(
    "by_hand",
    [
        pytest.param(["hooked beak", *features("owl")], id="added to"),
        pytest.param(features("owl")[1:], id="shortened"),
        pytest.param(features("owl")[::-1], id="put in another order"),
        pytest.param(["Beak of owl", *features("owl")[1:]], id="one letter changed"),
        pytest.param([], id="emptied"),
    ],
)
@pytest.mark.parametrize("refresh", [False, True], ids=["run again", "refreshed"])
def test_a_list_that_a_person_changed_is_never_touched(chat, path, generate, by_hand, refresh):
    generate()
    edit(path, owl=by_hand)
    chat.by_class.clear()
    for _ in range(2):
        report = generate(model="another", refresh=refresh)
        assert written(path)["owl"] == by_hand
        assert report.outcomes["owl"] is Outcome.HAND_MADE
    assert "owl" not in chat.classes_asked[len(BIRDS) :]
    assert written(path)["wren"] == features("wren", "another" if refresh else "a-model")


def test_a_file_of_one_s_own_is_only_added_to(chat, path, generate):
    path.write_text(
        json.dumps(
            {
                "format": "recollect-descriptors/1",
                "name": "my birds",
                "prefix": "a photo of a ",
                "suffix": ".",
                "classes": {"ostrich": ["long legs"], "Heron": ["a crest"]},
            }
        )
    )
    report = generate(refresh=True)
    found = load_descriptor_set(path)
    assert sorted(chat.classes_asked) == ["owl", "wren"]  # asked at the same time
    assert report.those(Outcome.HAND_MADE) == ["heron"]
    assert (found.name, found.prefix, found.suffix) == ("my birds", "a photo of a ", ".")
    assert written(path) == {
        "owl": features("owl"),
        "wren": features("wren"),
        "Heron": ["a crest"],
        "ostrich": ["long legs"],
    }


def test_a_class_that_was_deleted_is_written_anew(chat, path, generate):
    generate()
    edit(path, owl=None)
    chat.asked.clear()
    generate()
    assert chat.classes_asked == ["owl"]
    assert list(written(path)) == BIRDS


def test_what_a_person_writes_while_a_question_is_under_way_stays(chat, path, generate):
    generate(["wren"])
    meanwhile = replace(chat.said(listed("owl")), before=lambda: edit(path, owl=["hooked beak"], robin=["red breast"]))
    chat.by_class["owl"] = [meanwhile]
    report = generate(["owl", "wren"])
    assert report.outcomes["owl"] is Outcome.HAND_MADE
    assert written(path) == {"owl": ["hooked beak"], "wren": features("wren"), "robin": ["red breast"]}


def test_records_survive_another_program_that_saves_the_set(path, generate):
    generate()
    save_descriptor_set(load_descriptor_set(path), path)
    assert set(generate().outcomes.values()) == {Outcome.KEPT}


def test_one_class_that_fails_stops_no_other(chat, path, generate):
    chat.by_class = {"owl": [chat.said("I would rather not.")], "wren": [chat.fails(500)]}
    report = generate()
    assert report.outcomes == {"owl": Outcome.FAILED, "wren": Outcome.FAILED, "heron": Outcome.GENERATED}
    assert "a-model listed 0 descriptors of 'owl' in 2 answers" in report.reasons["owl"]
    assert "answered 500" in report.reasons["wren"]
    assert written(path) == {"heron": features("heron")}


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(("I would rather not.", "stop"), id="no list"),
        pytest.param((None, "content_filter"), id="nothing"),
        pytest.param(("- a beak\n- long le", "length"), id="cut off early"),
    ],
)
def test_too_little_is_asked_for_once_more(chat, path, generate, first):
    chat.by_class["owl"] = [chat.said(*first), chat.said(listed("owl"))]
    generate(["owl"])
    assert chat.classes_asked == ["owl", "owl"]
    assert written(path) == {"owl": features("owl")}


def test_a_cut_answer_that_holds_enough_is_used(chat, path, generate):
    chat.by_class["owl"] = [chat.said(listed("owl") + "\n- big ye", "length")]
    generate(["owl"])
    assert chat.classes_asked == ["owl"]
    assert written(path) == {"owl": features("owl")}


def test_answers_that_are_always_cut_say_so(chat, generate):
    chat.by_class["owl"] = [chat.said("- a beak\n- two", "length")]
    assert "listed 1 descriptors of 'owl' in 2 answers, cut off" in generate(["owl"]).reasons["owl"]


def test_a_refused_key_ends_the_run_and_what_was_written_stays(chat, path, generate):
    chat.by_class["wren"] = [chat.fails(401)]
    with pytest.raises(EndpointError, match="answered 401"):
        generate(in_flight=1)
    assert chat.classes_asked == ["owl", "wren"]
    assert list(written(path)) == ["owl"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param('{"format": "recollect-descriptors/1", "classes": {', "is not JSON", id="torn"),
        pytest.param('{"format": "recollect-descriptors/9", "classes": {}}', "this release reads", id="a later format"),
    ],
)
def test_a_file_that_is_no_set_is_left_alone(chat, path, generate, content, words):
    path.write_text(content)
    with pytest.raises(DescriptorError, match=words):
        generate()
    assert path.read_text() == content
    assert chat.asked == []


def test_a_place_that_cannot_be_written_is_named(chat, tmp_path):
    async def go():
        async with LanguageModel(chat.url, "a-model") as language_model:
            await generate_descriptors(["owl"], tmp_path / "nowhere" / "birds.json", language_model)

    chat.by_class["owl"] = [chat.said(listed("owl"))]
    with pytest.raises(DescriptorError, match="nowhere is no directory"):
        asyncio.run(go())
    assert chat.asked == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        pytest.param([], "names no class", id="empty"),
        pytest.param(["Grey-Heron", "owl", "grey heron"], "'Grey-Heron' and 'grey heron'", id="twice"),
        pytest.param(["owl", "owl"], "'owl' and 'owl'", id="the same twice"),
        pytest.param(["owl", " "], "blank", id="blank"),
        pytest.param(["owl\x00"], "control character", id="control character"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(chat, generate, names, words):
    with pytest.raises(DescriptorError, match=words):
        generate(names)
    assert chat.asked == []


@pytest.mark.parametrize(
    ("content", "names"),
    [
        pytest.param("owl\n\n# small ones\n  grey heron \r\nwren", ["owl", "grey heron", "wren"], id="lines"),
        pytest.param('\ufeff["owl", " wren "]', ["owl", "wren"], id="JSON"),
        pytest.param("", [], id="empty"),
    ],
)
def test_a_list_of_classes_is_read(tmp_path, content, names):
    path = tmp_path / "classes"
    path.write_text(content)
    assert read_class_names(path) == names


@pytest.mark.parametrize("content", [b'["owl"', b'["owl", 3]', b"\xff\xfe\x00"], ids=["torn", "a number", "no text"])
def test_a_list_of_another_kind_is_refused(tmp_path, content):
    path = tmp_path / "classes"
    path.write_bytes(content)
    with pytest.raises(DescriptorError, match="list of classes"):
        read_class_names(path)


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DescriptorError, match="missing"):
        read_class_names(tmp_path / "missing")


@pytest.mark.parametrize("change", [{"in_flight": 0}, {"fewest": 9, "most": 8}, {"asks": 0}])
def test_figures_that_make_no_sense_are_refused(change):
    with pytest.raises(GenerationError, match="at least"):
        GenerationConfig(**change)
