"""Frozen features: made once, gone on with after a kill, and never those of another encoder or picture."""

import json

import numpy as np
import pytest
import torch

from retrieval.composed.features import FrozenFeatures, freeze_features, vision_fingerprint
from retrieval.errors import ComposedError

NAMES = [f"p{number}" for number in range(150)]


class Pixels:
    """Gives pixels, counts, and dies at a picture."""

    def __init__(self, dies_at=None):
        self.asked, self.dies_at = [], dies_at

    def __call__(self, name):
        if name == self.dies_at:
            raise KeyboardInterrupt
        self.asked.append(name)
        return np.random.default_rng(int(name[1:])).random((3, 32, 32), dtype=np.float32)


def test_features_are_those_of_the_encoder_by_name(make_model, encoder, tmp_path):
    pixels = Pixels()
    features = freeze_features(tmp_path, NAMES, pixels, make_model())
    expected = encoder.image_tokens(np.stack([pixels("p7"), pixels("p149")]))
    np.testing.assert_allclose(features.take(["p7", "p149"]), expected, atol=2e-2)
    assert features.fingerprint == vision_fingerprint(make_model())


def test_a_killed_call_is_gone_on_with(make_model, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        freeze_features(tmp_path, NAMES, Pixels(dies_at="p100"), make_model())
    with pytest.raises(ComposedError, match="no finished features"):
        FrozenFeatures.open(tmp_path)
    second = Pixels()
    features = freeze_features(tmp_path, NAMES, second, make_model())
    assert second.asked == NAMES[64:]
    whole = freeze_features(tmp_path / "whole", NAMES, Pixels(), make_model())
    assert np.array_equal(features.take(NAMES), whole.take(NAMES))


def test_finished_features_are_not_made_again(make_model, tmp_path):
    model, again = make_model(), Pixels()
    freeze_features(tmp_path, NAMES, Pixels(), model)
    torch.nn.init.zeros_(model.text_projection.weight)  # not of the image encoder
    torch.nn.init.zeros_(model.vision_model.post_layernorm.weight)  # it trains
    freeze_features(tmp_path, NAMES, again, model)
    assert again.asked == []


@pytest.mark.parametrize("other", ["encoder", "pictures"])
def test_features_of_something_else_are_replaced(make_model, tmp_path, other):
    freeze_features(tmp_path, NAMES, Pixels(), make_model())
    again = Pixels()
    names, seed = (NAMES, 5) if other == "encoder" else (NAMES[:20], 0)
    features = freeze_features(tmp_path, names, again, make_model(seed=seed))
    assert again.asked == names
    assert len(features.tokens) == len(names)


def keyed(directory, pixels, model, keys):
    return freeze_features(directory, list(keys), pixels, model, keys=list(keys.values()))


def test_pictures_that_changed_are_run_over_again_and_no_others(make_model, tmp_path):
    keys = dict.fromkeys(NAMES, "first")
    before = keyed(tmp_path, Pixels(), make_model(), keys).take(NAMES)
    again = Pixels()
    changed = {name: key for name, key in keys.items() if name != "p3"} | {"p70": "second", "p0150": "new"}
    features = keyed(tmp_path, again, make_model(), changed)
    assert again.asked == ["p70", "p0150"]
    others = [name for name in NAMES if name not in ("p3", "p70")]
    assert np.array_equal(features.take(others), before[[NAMES.index(name) for name in others]])
    whole = keyed(tmp_path / "whole", Pixels(), make_model(), changed)
    np.testing.assert_allclose(features.take(list(changed)), whole.take(list(changed)), atol=2e-3)
    with pytest.raises(ComposedError, match="'p3'"):
        features.take(["p3"])
    keyed(tmp_path, Pixels(dies_at="p1"), make_model(), changed)  # nothing is left to do


def test_pictures_that_change_while_a_killed_call_waits_are_run_over_again(make_model, tmp_path):
    keys = dict.fromkeys(NAMES, "first")
    with pytest.raises(KeyboardInterrupt):
        keyed(tmp_path, Pixels(dies_at="p100"), make_model(), keys)
    second = Pixels()
    keyed(tmp_path, second, make_model(), keys | {"p5": "second", "p140": "second"})
    assert second.asked == ["p5", *NAMES[64:]]


def test_keys_of_another_encoder_keep_nothing(make_model, tmp_path):
    keys, again = dict.fromkeys(NAMES[:20], "first"), Pixels()
    keyed(tmp_path, Pixels(), make_model(), keys)
    keyed(tmp_path, again, make_model(seed=5), keys)
    assert again.asked == NAMES[:20]


def test_features_that_were_kept_without_keys_are_made_again(make_model, tmp_path):
    freeze_features(tmp_path, NAMES[:20], Pixels(), make_model())
    (tmp_path / "features.json").write_text(
        json.dumps({"fingerprint": vision_fingerprint(make_model()), "names": NAMES[:20]})
    )
    assert FrozenFeatures.open(tmp_path).take(["p1"]).any(), "a gallery of an earlier release still opens"
    again = Pixels()
    keyed(tmp_path, again, make_model(), dict.fromkeys(NAMES[:20], "first"))
    assert again.asked == NAMES[:20]


def test_an_unknown_picture_is_named(make_model, tmp_path):
    features = freeze_features(tmp_path, NAMES[:3], Pixels(), make_model())
    with pytest.raises(ComposedError, match="'nobody'"):
        features.take(["p1", "nobody"])
