"""Descriptor sets: what files may say, what is reported, and that labels meet classes by name."""

import json
import pickle
from dataclasses import replace

import pytest

from retrieval.descriptors import descriptor_set
from retrieval.descriptors.descriptor_set import (
    DescribedClass,
    DescriptorSet,
    dump_descriptor_set,
    load_descriptor_set,
    parse_descriptor_set,
    save_descriptor_set,
    shipped_sets,
)
from retrieval.descriptors.problems import ProblemKind
from retrieval.errors import DescriptorError

HENHOUSE = DescriptorSet.from_mapping("henhouse", {"hen": ["a red comb", "two legs"], "guinea fowl": ["dots"]})


def test_texts_come_class_by_class_without_what_does_not_count():
    birds = DescriptorSet.from_mapping(
        "birds", {"hen": ["two legs", "", "Two  LEGS", "wings"], "owl": []}, prefix="A ", suffix="."
    )
    assert birds.texts() == ["A hen, which has two legs.", "A hen, which has wings.", "A owl."]
    assert birds.texts_by_class() == [birds.texts()[:2], birds.texts()[2:]]


def test_a_published_file_is_class_to_descriptors():
    found = parse_descriptor_set('{"hen": ["two legs", null], "owl": null, "cat": "", "dog": [""]}', name="animals")
    assert found == DescriptorSet.from_mapping("animals", {"hen": ["two legs", ""], "owl": [], "cat": [], "dog": [""]})


def test_a_class_that_comes_twice_gets_both_lists_and_a_report():
    found = parse_descriptor_set('{"hen": ["legs"], "owl": ["eyes"], "hen": ["wings"]}', name="birds")
    assert found.classes[0] == DescribedClass(name="hen", descriptors=("legs", "wings"))
    assert [(each.kind, each.class_name) for each in found.problems()] == [(ProblemKind.REPEATED_CLASS, "hen")]


def test_a_set_survives_being_written_and_read(tmp_path):
    origin = {"model": "m", "classes": {"hen": {"attempts": 2}}}
    whole = replace(HENHOUSE, prefix="a ", suffix=".", generated=origin)
    path = tmp_path / "set.json"
    path.write_text("an older file")
    save_descriptor_set(whole, path)
    found = load_descriptor_set(path)
    assert (found, found.generated) == (whole, origin)
    assert pickle.loads(pickle.dumps(found)) == whole
    assert path.read_text() == dump_descriptor_set(whole)
    assert json.loads(path.read_text()) == {
        "format": "recollect-descriptors/1",
        "name": "henhouse",
        "prefix": "a ",
        "suffix": ".",
        "classes": {"hen": ["a red comb", "two legs"], "guinea fowl": ["dots"]},
        "generated": origin,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_the_name_in_a_file_is_preferred_to_that_of_the_file(tmp_path):
    (tmp_path / "plain.json").write_text('\ufeff{"hen": ["legs"]}', encoding="utf-8")
    save_descriptor_set(HENHOUSE, tmp_path / "other.json")
    assert load_descriptor_set(tmp_path / "plain.json").name == "plain"
    assert load_descriptor_set(str(tmp_path / "other.json")).name == "henhouse"


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        pytest.param({"generated": {"model": "m"}}, True, id="how it was generated does not count"),
        pytest.param({"repeated": ("hen",)}, True, id="what the file repeated does not count"),
        pytest.param({"name": "coop"}, False, id="the name counts"),
        pytest.param({"prefix": "a "}, False, id="the prefix counts"),
        pytest.param({"suffix": "."}, False, id="the suffix counts"),
        pytest.param({"classes": HENHOUSE.classes[::-1]}, False, id="the order counts, it decides ties"),
        pytest.param({"classes": HENHOUSE.classes[:1]}, False, id="the classes count"),
    ],
)
def test_the_digest_is_that_of_what_the_set_says(changed, same):
    assert (replace(HENHOUSE, **changed).digest == HENHOUSE.digest) is same
    assert len(HENHOUSE.digest) == 64


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("[", "is not JSON", id="torn"),
        pytest.param("[" * 100_000, "is not JSON", id="nested beyond reason"),
        pytest.param('["hen"]', "must be a JSON object, .* got list", id="a list"),
        pytest.param("{}", "must have 1 to 10000 classes, got 0", id="no classes"),
        pytest.param('{"hen": "legs"}', "class 'hen' .* list of texts, got str 'legs'", id="a text for a list"),
        pytest.param('{"hen": [1]}', "class 'hen' .* list of texts, got list", id="a number for a text"),
        pytest.param('{"hen": {"legs": 2}}', "class 'hen' .* got object", id="an object for a list"),
        pytest.param('{" ": []}', "class name must not be blank", id="a blank name"),
        pytest.param('{"hen": ["two\\nlegs"]}', r"control character '\\n'", id="a line break"),
        pytest.param('{"hen": ["\\ud800"]}', "control character", id="half a character"),
        pytest.param('{"he\\u0000n": []}', "control character", id="a control character in a name"),
        pytest.param('{"format": "recollect-descriptors/2", "classes": {}}', "this release reads", id="another format"),
        pytest.param('{"format": "recollect-descriptors/1"}', "must be objects, got NoneType", id="classes missing"),
        pytest.param(
            '{"format": "recollect-descriptors/1", "classes": {"hen": []}, "prefx": "a"}', "got 'prefx'", id="a slip"
        ),
        pytest.param(
            '{"format": "recollect-descriptors/1", "classes": {"hen": []}, "classes": {"owl": []}}',
            "got 'classes' more than once",
            id="classes given twice",
        ),
        pytest.param(
            '{"format": "recollect-descriptors/1", "classes": {"hen": []}, "prefix": 1}',
            "'prefix' .* must be a text, got int 1",
            id="a prefix that is no text",
        ),
        pytest.param(
            '{"format": "recollect-descriptors/1", "classes": {"hen": []}, "generated": {"cost": NaN}}',
            "'generated' .* must be plain JSON",
            id="bookkeeping that JSON cannot keep",
        ),
    ],
)
def test_what_is_no_descriptor_set_is_refused_with_its_reason(text, said):
    with pytest.raises(DescriptorError, match=said):
        parse_descriptor_set(text, name="birds")


def test_a_class_called_format_is_a_class():
    assert parse_descriptor_set('{"format": ["A4"], "name": []}', name="paper").class_names == ("format", "name")


def classes(count, descriptors):
    return {f"class {at}": descriptors for at in range(count)}


@pytest.mark.parametrize(
    ("mapping", "said"),
    [
        pytest.param(classes(10_001, []), "10001", id="too many classes"),
        pytest.param({"hen": list(map(str, range(201)))}, "201 descriptors, at most 200", id="too many of a class"),
        pytest.param(classes(501, ["x"] * 200), "100200 descriptors, at most 100000", id="too many together"),
        pytest.param({"hen": ["x" * 501]}, "501 characters, at most 500", id="too long a descriptor"),
        pytest.param({"x" * 201: []}, "201 characters, at most 200", id="too long a name"),
        pytest.param({"hen": "two legs"}, "must have a list of descriptors, got text", id="a text for a list"),
    ],
)
def test_limits(mapping, said):
    with pytest.raises(DescriptorError, match=said):
        DescriptorSet.from_mapping("large", mapping)


def test_the_limits_themselves_are_allowed():
    deep = DescriptorSet.from_mapping("large", {"x" * 200: ["x" * 500, *map(str, range(199))]})
    assert len(deep.classes[0].scored) == 200
    assert len(DescriptorSet.from_mapping("large", classes(10_000, ["x"] * 10)).classes) == 10_000


def test_two_classes_of_one_name_are_refused():
    with pytest.raises(DescriptorError, match="class 'hen' twice"):
        DescriptorSet(name="birds", classes=(HENHOUSE.classes[0], HENHOUSE.classes[0]))


def test_a_file_beyond_the_limit_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(descriptor_set, "MAX_FILE_BYTES", 10)
    (tmp_path / "large.json").write_text('{"hen": []}')
    with pytest.raises(DescriptorError, match="has 11 bytes, at most 10 are read"):
        load_descriptor_set(tmp_path / "large.json")


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "photo.json").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DescriptorError, match="cannot be read"):
        load_descriptor_set(tmp_path / "photo.json")


def test_problems_are_found_where_they_are():
    found = DescriptorSet.from_mapping(
        "birds",
        {
            "Snowy-Owl": ["wings", "round eyes", "", "Round  eyes"],
            "hen": ["Wings", "two legs"],
            "snowy owl": ["wings"],
            "emu": [" "],
        },
    ).problems()
    assert [(each.kind, each.class_name, each.descriptor) for each in found] == [
        (ProblemKind.EMPTY_DESCRIPTOR, "Snowy-Owl", ""),
        (ProblemKind.REPEATED_DESCRIPTOR, "Snowy-Owl", "Round  eyes"),
        (ProblemKind.EMPTY_DESCRIPTOR, "emu", ""),
        (ProblemKind.NO_DESCRIPTORS, "emu", ""),
        (ProblemKind.SIMILAR_NAMES, "snowy owl", ""),
    ]
    assert "'Snowy-Owl' and 'snowy owl'" in found[-1].message


def test_a_descriptor_that_all_classes_share_is_reported_once():
    shared = {"hen": ["wings", "comb"], "owl": ["Wings", "eyes"], "emu": ["neck", "wings"]}
    found = DescriptorSet.from_mapping("birds", shared).problems()
    assert [(each.kind, each.class_name, each.descriptor) for each in found] == [
        (ProblemKind.SHARED_BY_ALL, "", "wings")
    ]
    assert DescriptorSet.from_mapping("birds", {"hen": ["wings"]}).problems() == []


def test_labels_meet_classes_by_name_whatever_their_order():
    found = DescriptorSet.from_mapping(
        "shop", {"Golden Delicious": [], "oat milk": [], "leek": [], "Zucchini": []}
    ).match(["zucchini", "Oat_Milk", "Golden-Delicious", "Papaya", "ZUCCHINI"])
    assert found.classes == (3, 1, 0, None, 3)
    assert (found.missing, found.extra) == (("Papaya",), ("leek",))


def test_an_exact_name_goes_before_a_similar_one_and_a_choice_is_left_to_nobody():
    shop = DescriptorSet.from_mapping("shop", {"oat milk": [], "Oat-Milk": []})
    assert shop.match(["Oat-Milk", "oat milk"]).classes == (1, 0)
    with pytest.raises(DescriptorError, match="'OAT MILK' may be any of 'oat milk', 'Oat-Milk'"):
        shop.match(["OAT MILK"])


def test_a_class_that_is_not_there_is_refused_with_those_that_come_close():
    with pytest.raises(DescriptorError, match="no class 'guinea foul'; it has 'guinea fowl' and 1 more"):
        HENHOUSE.index_of("guinea foul")
    assert HENHOUSE.index_of("Guinea-Fowl") == 1


def test_a_descriptor_is_removed_however_it_is_spelled():
    found = HENHOUSE.without_descriptor("HEN", "A red  comb")
    assert [each.descriptors for each in found.classes] == [("two legs",), ("dots",)]
    with pytest.raises(DescriptorError, match="'hen' has no descriptor 'blue comb'; it has 'a red comb', 'two legs'"):
        HENHOUSE.without_descriptor("hen", "blue comb")


@pytest.mark.parametrize("name", shipped_sets())
def test_what_is_shipped_has_no_problems(name):
    found = load_descriptor_set(name)
    assert found.name == name
    assert [problem.message for problem in found.problems()] == []


def test_a_set_that_is_nowhere_is_refused_with_those_that_are_shipped():
    with pytest.raises(DescriptorError, match=r"expected a JSON file or one that is shipped: .*grocery"):
        load_descriptor_set("grocer")
