"""The rendered world: equal seeds, exact boxes, texts that are true, and look-alikes that make it hard."""

import json
import re
from collections import Counter
from dataclasses import asdict, replace

import numpy as np
import pytest

from retrieval.composed.datasets import load_dataset
from retrieval.composed.world import contact_sheet, standard, tiny, write_world
from retrieval.composed.world.config import SPLITS
from retrieval.composed.world.instances import family
from retrieval.composed.world.places import WORDS, place
from retrieval.composed.world.queries import COMPANION, KEEP, REPLACE, plan
from retrieval.composed.world.scenes import TIME_WORDS, Scene, render
from retrieval.errors import DatasetError

MEDIUM = replace(tiny(), train_families=12, places_an_instance=3)


def files_of(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }


@pytest.fixture(scope="module")
def medium():
    return plan(MEDIUM, "train")


def test_equal_seeds_give_equal_bytes_whoever_draws(tiny_world, tmp_path):
    again = write_world(tmp_path / "again", tiny(), workers=2)
    assert files_of(again) == files_of(tiny_world)


def test_another_seed_is_another_world(tiny_world, tmp_path):
    other = write_world(tmp_path / "other", tiny(seed=1))
    assert files_of(other)["caption_full.test.json"] != files_of(tiny_world)["caption_full.test.json"]


def test_a_killed_call_is_gone_on_with_and_keeps_what_is_there(tiny_world, tmp_path):
    directory = tmp_path / "world"

    def dies(done, _total):
        if done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(directory, tiny(), progress=dies)
    drawn = {path: path.stat().st_mtime_ns for path in directory.rglob("*.jpg")}
    assert drawn
    assert not (directory / "split.train.json").exists()
    write_world(directory, tiny())
    assert all(path.stat().st_mtime_ns == at for path, at in drawn.items())
    assert files_of(directory) == files_of(tiny_world)


def test_a_folder_of_something_else_is_left_alone(tiny_world, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(DatasetError, match="new or empty"):
        write_world(tmp_path, tiny())
    with pytest.raises(DatasetError, match="another size or seed"):
        write_world(tiny_world, tiny(seed=9))


def test_it_is_read_as_oacirr_with_kinds(tiny_world):
    data = load_dataset("oacirr", tiny_world, "test")
    assert all(path.is_file() for path in data.images.values())
    assert {query.kind for query in data.queries} <= {KEEP, REPLACE, COMPANION}
    for query in data.queries:
        assert data.instances[query.reference] == data.instances[query.target]
        assert query.reference != query.target


def test_no_instance_and_no_family_is_in_two_splits(tiny_world):
    families = [{name.rsplit("-", 1)[0] for name in plan(tiny(), split).instances} for split in SPLITS]
    assert not families[0] & families[1]
    assert not families[0] & families[2]
    assert not families[1] & families[2]


def test_members_of_a_family_are_alike_and_all_different():
    for number in range(30):
        members = family(f"f{number}", np.random.default_rng(number))
        looks = [{key: value for key, value in asdict(each).items() if key != "name"} for each in members]
        assert len({each.word for each in members}) == 1
        assert all(left != right for at, left in enumerate(looks) for right in looks[at + 1 :])
        for other in looks[1:]:
            assert 1 <= sum(other[key] != looks[0][key] for key in other) <= 2


def test_boxes_are_tight_round_what_is_seen():
    members = family("f", np.random.default_rng(3))
    instances = {each.name: each for each in members}
    scene = Scene("beach", 5, "day", (members[0].name, members[1].name))
    image, boxes = render(scene, instances, 11, 128)
    assert image.size == (128, 128)
    for x1, y1, x2, y2 in boxes:
        assert 0 <= x1 < x2 <= 128
        assert 0 <= y1 < y2 <= 128
        assert 25 <= max(x2 - x1, y2 - y1) <= 60  # 34 to 44 % of the side, less what is hidden
    empty, _ = place("beach", 5, 128)
    changed = np.abs(np.asarray(image, dtype=int) - np.asarray(empty, dtype=int)).max(axis=2) > 60
    outside = changed.copy()
    for x1, y1, x2, y2 in boxes:
        outside[y1:y2, x1:x2] = False
        assert changed[y1:y2, x1:x2].mean() > 0.3
    assert outside.mean() < 0.02  # shadows and grain alone


def test_texts_are_true_of_their_targets(medium):
    for asked in medium.queries:
        reference, target = medium.pictures[asked.reference], medium.pictures[asked.target]
        assert reference.anchor == target.anchor
        assert medium.instances[target.anchor].word not in asked.text.split() or asked.kind != REPLACE
        if asked.kind == KEEP:
            assert (reference.kind, reference.place) == (target.kind, target.place)
            if reference.time != target.time:
                assert TIME_WORDS[target.time] in asked.text
                assert len(reference.objects) == len(target.objects)
            else:
                fewer, more = sorted((reference.objects, target.objects), key=len)
                assert medium.instances[more[-1]].noun in asked.text
                assert more[-1] not in fewer
                assert len(more) == len(fewer) + 1
        else:
            assert (reference.kind, reference.place) != (target.kind, target.place)
            assert WORDS[target.kind] in asked.text
            assert TIME_WORDS[target.time] in asked.text
        if asked.kind == COMPANION:
            nouns = [medium.instances[name].noun for name in target.objects[1:]]
            assert any(noun in asked.text for noun in nouns)


def test_every_kind_of_text_is_asked(medium):
    kinds = Counter(asked.kind for asked in medium.queries)
    assert all(kinds[kind] > 0.1 * len(medium.queries) for kind in (KEEP, REPLACE, COMPANION))


def changes_of(reference, picture):
    """What of a reference is missing in another picture."""
    return set(reference.objects) - set(picture.objects)


def is_double_of(instances, target, scene):
    """Whether a picture of the same place at the same time shows a look-alike in the object's stead."""
    there = (scene.kind, scene.place, scene.time) == (target.kind, target.place, target.time)
    alike = instances[scene.anchor].family == instances[target.anchor].family
    as_many = len(scene.objects) == len(target.objects)
    return there and alike and as_many and target.anchor not in scene.objects


def test_the_scene_does_not_tell_the_target(medium):
    """Wherever a target is, so is a double; at half of the places as much of a reference is there as in the target."""
    even = []
    for asked in medium.queries:
        reference, target = medium.pictures[asked.reference], medium.pictures[asked.target]
        (double,) = (scene for scene in medium.pictures if is_double_of(medium.instances, target, scene))
        if asked.kind == KEEP:
            lost = len(changes_of(reference, target)), len(changes_of(reference, double))
            assert lost[1] - lost[0] in (0, 1)
            even.append(lost[0] == lost[1])
    assert 0.35 < np.mean(even) < 0.65


def test_what_is_asked_for_is_shown_nowhere_else(medium):
    asked_for = {medium.pictures[asked.target].anchor for asked in medium.queries}
    for scene in medium.pictures:
        assert not asked_for & set(scene.objects[1:])


def test_the_object_alone_does_not_tell_the_target(medium):
    """A search that knows each object perfectly and does not read has one target among five pictures."""
    shown = Counter(scene.anchor for scene in medium.pictures)
    for asked in medium.queries:
        assert shown[medium.pictures[asked.target].anchor] == 2 * MEDIUM.places_an_instance


def test_shares_are_kept():
    bare = plan(replace(MEDIUM, double_share=0.0, exchange_share=0.0), "train")
    assert len(bare.pictures) == 12 * 3 * 3 * 2
    assert all(
        len(changes_of(bare.pictures[asked.reference], bare.pictures[asked.target])) <= 1
        for asked in bare.queries
        if asked.kind == KEEP
    )


def test_most_references_show_several_things_and_some_a_look_alike(medium):
    references = [medium.pictures[asked.reference] for asked in medium.queries]
    assert all(2 <= len(scene.objects) <= 4 for scene in references)
    alike = [
        any(medium.instances[name].family == medium.instances[scene.anchor].family for name in scene.objects[1:])
        for scene in references
    ]
    assert 0.2 < sum(alike) / len(alike) < 0.6


def test_captions_tell_one_object_and_where_it_is(tiny_world):
    lines = (tiny_world / "captions.csv").read_text().splitlines()
    scenes = json.loads((tiny_world / "scenes.train.json").read_text())
    assert lines[0] == "image,caption"
    assert len(lines) - 1 == sum(len(scene["objects"]) for scene in scenes.values())
    first = next(iter(scenes.values()))
    assert first["objects"][0]["noun"].split()[-1] in lines[1]
    assert WORDS[first["kind"]] in lines[1]


def test_the_sheet_shows_as_many_queries_as_asked(tiny_world):
    sheet = contact_sheet(tiny_world, "test", queries=4, columns=2)
    assert sheet.size == (2 * (2 * 160 + 24), 2 * (160 + 46))


def test_the_sheet_shows_queries_of_every_kind(tiny_world, monkeypatch):
    asked = {query.text: query.kind for query in load_dataset("oacirr", tiny_world, "test").queries}
    shown = []
    monkeypatch.setattr(
        "retrieval.composed.world.sheet.textwrap.fill", lambda text, _width: shown.append(asked[text]) or text
    )
    contact_sheet(tiny_world, "test", queries=18)
    assert len(shown) == 18
    assert {KEEP, REPLACE} <= set(shown)


def test_texts_have_the_right_article(medium):
    texts = [asked.text for asked in medium.queries] + [each.described for each in medium.instances.values()]
    assert not [text for text in texts if re.search(r"\ba [aeiou]|\ban [^aeiou]", text)]
    assert any("an orange" in text for text in texts)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        pytest.param({"train_families": 1}, "train_families", id="no company"),
        pytest.param({"size": 32}, "size must be 64", id="marks would vanish"),
        pytest.param({"double_share": 1.5}, "double_share must be 0 to 1", id="a share above 1"),
        pytest.param({"exchange_share": -0.5}, "exchange_share must be 0 to 1", id="a share below 0"),
        pytest.param({"seed": -1}, "seed must be at least 0", id="a seed below 0"),
        pytest.param({"places_an_instance": 11}, "places_an_instance", id="more places than kinds"),
    ],
)
def test_a_size_that_cannot_be_is_named(changes, match):
    with pytest.raises(ValueError, match=match):
        replace(standard(), **changes)
