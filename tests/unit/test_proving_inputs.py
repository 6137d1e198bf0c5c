"""What `prove` makes of a user's batches, and what of models' outputs."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from splinter.align.pairing import blanked, blanked_queries
from splinter.align.proving.batches import given, hostile, padding
from splinter.align.proving.error import ProveError
from splinter.align.proving.outputs import flattened, paired

IDS = np.arange(24).reshape(3, 8) % 11
MASK = np.ones((3, 8), dtype=np.int64)


def varied(**batch):
    return hostile(given(batch))


# -- batches ----------------------------------------------------------------------------------------------


def test_one_batch_by_name_or_by_place():
    assert list(given({"input_ids": IDS}).required) == ["batch"]
    listed = given([IDS, None, 3])
    assert listed.positional and list(listed.required["batch"]) == ["0", "1", "2"]
    assert listed.required["batch"]["1"] is None and listed.required["batch"]["2"] == 3
    single = given(IDS)
    assert single.positional and np.array_equal(single.required["batch"]["0"], IDS)


def test_named_batches_keep_their_names():
    batches = given({"short": {"input_ids": IDS[:, :2]}, "long": {"input_ids": IDS}})
    assert list(batches.required) == ["short", "long"] and not batches.positional
    assert given({"a": [IDS], "b": [IDS, MASK]}).positional


def test_a_nested_list_of_numbers_is_an_array():
    assert given({"input_ids": [[1, 2], [3, 4]]}).required["batch"]["input_ids"].shape == (2, 2)


@pytest.mark.parametrize(("batches", "said"), [
    ({}, "no batch was given"),
    ({"words": np.array(["a"])}, "'words' of the batch is of type <U1"),
    ({"a": {"input_ids": IDS}, "b": [IDS]}, "some batches are dicts and some are lists"),
])  # fmt: skip
def test_what_is_no_batch_is_refused(batches, said):
    with pytest.raises(ProveError, match=said):
        given(batches)


def test_the_users_arrays_are_copied():
    batch = {"input_ids": IDS.copy()}
    made = given(batch)
    batch["input_ids"][:] = 0
    assert np.array_equal(made.required["batch"]["input_ids"], IDS)


# -- hostile batches --------------------------------------------------------------------------------------


def test_tokens_are_cut_and_doubled_with_all_that_lies_along_them():
    found = varied(
        input_ids=IDS, attention_mask=MASK, position_ids=np.tile(np.arange(8), (3, 1)), weight=np.ones((3, 8))
    )
    assert [a.shape for a in found.required["one token"].values()] == [(3, 1), (3, 1), (3, 1), (3, 8)]
    longer = found.required["longer"]
    assert longer["input_ids"].shape == (3, 16) and longer["position_ids"][0].tolist() == list(range(16))
    assert {len(a) for a in found.required["one row"].values()} == {1}


def test_padding_lies_right_left_and_in_the_middle():
    found = varied(input_ids=IDS, attention_mask=MASK).required
    rows = {name: found[name]["attention_mask"][0].tolist() for name in found if name.startswith("padding")}
    assert rows == {
        "padding right": [1, 1, 1, 1, 1, 1, 0, 0],
        "padding left": [0, 0, 1, 1, 1, 1, 1, 1],
        "padding in the middle": [1, 1, 0, 0, 1, 1, 1, 1],
    }
    assert found["padding right"]["attention_mask"][1].all()  # rows of two lengths in one batch


def test_a_row_of_padding_is_compared_and_not_required():
    found = varied(input_ids=IDS, attention_mask=MASK)
    assert list(found.optional) == ["at the padding", "a row of padding"]
    assert not found.optional["a row of padding"]["attention_mask"][-1].any()


def test_a_place_of_padding_counts_for_nothing():
    mask = np.array([[1, 1, 0], [1, 1, 1]])
    assert [m.tolist() for m in padding({"input_ids": mask, "attention_mask": mask})] == [mask.tolist()]
    # whose places are they, the encoder's or the decoder's?
    assert padding({"attention_mask": mask, "decoder_input_ids": mask}) == []
    assert len(padding({"attention_mask": mask, "decoder_input_ids": mask[:, :2]})) == 1
    shapes = {"states": (2, 3, 4), "merged": (6, 4), "pooled": (2, 4)}
    kept = blanked({name: np.ones(shape) for name, shape in shapes.items()}, [mask])
    assert {name: int(array.sum()) for name, array in kept.items()} == {"states": 20, "merged": 20, "pooled": 8}
    assert blanked_queries(np.ones((2, 5, 3, 3)), [mask]).sum() == 5 * 5 * 3
    assert np.isnan(blanked({"bad": np.full((2, 3, 1), np.nan)}, [mask])["bad"]).sum() == 5


# -- outputs ----------------------------------------------------------------------------------------------

Pair = namedtuple("Pair", "hidden pooled")


class Lazy:
    """As some output classes of the libraries: turns itself into a tuple."""

    def to_tuple(self):
        return np.zeros(1), np.zeros(2)


@pytest.mark.parametrize(("output", "names"), [
    (np.zeros(1), ["output"]),
    ((np.zeros(1), None, [np.zeros(2), np.zeros(3)]), ["0", "2.0", "2.1"]),
    (OrderedDict(logits=np.zeros(1), cache=(np.zeros(2),), loss=None), ["logits", "cache.0"]),
    (Pair(np.zeros(1), np.zeros(2)), ["hidden", "pooled"]),
    (Lazy(), ["0", "1"]),
    ("text", []),
])  # fmt: skip
def test_outputs_are_flattened_in_order(output, names):
    assert [name for name, _ in flattened(output, np.ndarray)] == names


def test_outputs_with_names_are_paired_by_name():
    found = paired({"loss": (), "logits": (2, 3)}, {"logits": (2, 3), "extra": (1,), "loss": ()})
    assert found.pairs == {"loss": ("loss", "loss"), "logits": ("logits", "logits")}
    assert found.notes == ("only ours returns extra: not compared",)


def test_outputs_without_names_are_paired_by_place():
    found = paired({"last_hidden_state": (2, 4), "pooler_output": (2, 3)}, {"0": (2, 4), "1": (2, 3)})
    assert found.pairs == {"last_hidden_state": ("last_hidden_state", "0"), "pooler_output": ("pooler_output", "1")}
    # an equal number: a wrong shape is a fault of the port, and no reason to leave the output out
    assert paired({"a": (2, 4)}, {"0": (2, 5)}).pairs == {"a": ("a", "0")}


def test_where_one_side_returns_more_shapes_tell_which():
    found = paired({"logits": (2, 3), "cache.0": (9,), "hidden": (2, 4)}, {"0": (2, 3), "1": (2, 4)})
    assert found.pairs == {"logits": ("logits", "0"), "hidden": ("hidden", "1")}
    assert found.notes == ("only theirs returns cache.0: not compared",)
