"""mapping: the map between two models found, on inventories small enough to be matched by eye."""

import numpy as np
import pytest

from splinter.align.files import WeightError
from splinter.align.mapping import Inventory, Tensor, find
from splinter.align.mapping.naming import Names, split
from splinter.align.weights import Rule, WeightMap

LEAVES = {"Linear": ("weight", "bias"), "LayerNorm": ("weight", "bias"), "Embedding": ("weight",)}


def model(framework, layers, ran=None, **more):
    """An inventory of (path, kind, (out, in) or (size,)), defined in this order and run in it or in another."""
    tensors = []
    for path, kind, shape in layers:
        matrix = shape[::-1] if framework == "paddle" and kind == "Linear" else shape
        for leaf in LEAVES[kind]:
            tensors.append(Tensor(f"{path}.{leaf}", matrix if leaf == "weight" else shape[:1], kind))
    return Inventory(framework, tuple(tensors), tuple(ran or [path for path, *_ in layers]), **more)


def fed(found):
    """Our layers -> theirs, by their weights."""
    return {our[:-7]: their[:-7] for our, their in found.pairs.items() if our.endswith(".weight")}


BERT = [
    ("embeddings.word_embeddings", "Embedding", (9, 4)),
    *(
        (f"encoder.layer.{k}.attention.self.{n}", "Linear", (4, 4))
        for k in range(12)
        for n in ("query", "key", "value")
    ),
    *((f"encoder.layer.{k}.output.dense", "Linear", (4, 6)) for k in range(12)),
]
OURS = [
    ("embeddings.words", "Embedding", (9, 4)),
    *((f"encoder.layers.{k}.self_attn.{n}_proj", "Linear", (4, 4)) for k in range(12) for n in "qkv"),
    *((f"encoder.layers.{k}.linear2", "Linear", (4, 6)) for k in range(12)),
]


def test_layers_of_equal_shape_are_told_apart_by_name():
    """
    q is query, layer 10 comes behind layer 2, a Linear between the frameworks is turned though it is square, and an
    Embedding is not; the rules hold for all layers at once.
    """
    found = find(model("torch", BERT), model("paddle", OURS))
    assert fed(found)["encoder.layers.10.self_attn.k_proj"] == "encoder.layer.10.attention.self.key"
    assert all(their.split(".")[2] == our.split(".")[2] for our, their in fed(found).items() if "layers" in our)
    assert Rule("encoder.layer.*.attention.self.query.weight", "encoder.layers.*.self_attn.q_proj.weight", True) in (
        found.weights.rules
    )
    assert Rule("embeddings.word_embeddings.weight", "embeddings.words.weight") in found.weights.rules
    assert len(found.weights.rules) == 9
    assert set(found.reasons.values()) == {"by name"}


def test_a_model_defined_in_another_order_is_matched_by_name():
    """
    Our key comes before our query, in the definition and when it runs.
    """
    ours = sorted(OURS, key=lambda layer: layer[0])
    assert ours != OURS
    assert (
        find(model("torch", BERT), model("paddle", ours)).pairs
        == find(model("torch", BERT), model("paddle", OURS)).pairs
    )


def test_within_one_framework_nothing_is_turned():
    """
    Neither is a Linear of transformers' Conv1D between the frameworks, which keeps its weight as Paddle does.
    """
    same = find(model("torch", BERT), model("torch", BERT))
    assert not any(rule.transpose for rule in same.weights.rules)
    theirs = Inventory("torch", (Tensor("c_proj.weight", (4, 4), "Conv1D"),))
    ours = Inventory("paddle", (Tensor("proj.weight", (4, 4), "Linear"),))
    assert find(theirs, ours).weights.rules == (Rule("c_proj.weight", "proj.weight"),)


def test_what_names_do_not_tell_order_does_and_says_so():
    """
    Two norms of strange names, defined and run in one order on both sides.
    """
    found = find(model("torch", [("alpha", "LayerNorm", (4,)), ("omega", "LayerNorm", (4,))]),
                 model("paddle", [("zebra", "LayerNorm", (4,)), ("yak", "LayerNorm", (4,))]))  # fmt: skip
    assert fed(found) == {"zebra": "alpha", "yak": "omega"}
    assert set(found.reasons.values()) == {"by shape and order"}


def doubtful():
    """Two norms that are defined in one order and run in the other."""
    theirs = model("torch", [("alpha", "LayerNorm", (4,)), ("omega", "LayerNorm", (4,))])
    ours = model("paddle", [("zebra", "LayerNorm", (4,)), ("yak", "LayerNorm", (4,))], ran=["yak", "zebra"])
    return theirs, ours


def test_what_neither_tells_is_an_error_with_the_lines_that_decide():
    """
    The candidates are there as rules, and one of them, handed in, is obeyed.
    """
    with pytest.raises(WeightError, match="not decided for 4 tensors") as failed:
        find(*doubtful())
    lines = [line.strip() for line in str(failed.value).splitlines()[1:]]
    assert len(lines) == 2
    for line in lines:
        found = find(*doubtful(), rules=eval(line.removeprefix("rules="), {"Rule": Rule}))
        assert fed(found) in ({"zebra": "alpha", "yak": "omega"}, {"zebra": "omega", "yak": "alpha"})
        assert found.reasons["yak.weight"] == "by the rule given"


def test_what_neither_tells_is_tried():
    """
    The map under which our outputs are those of the reference is the right one.
    """

    def trial(weights):
        right = {link.ours: link.theirs for link in weights.links(["yak.weight"])} == {"yak.weight": "alpha.weight"}
        return {"": 1e-12 if right else 0.3}

    found = find(*doubtful(), trial=trial)
    assert fed(found) == {"zebra": "omega", "yak": "alpha"}
    assert set(found.reasons.values()) == {"by trial"}


@pytest.mark.parametrize("far", [{"": 0.3}, {"": 1e-12}, {}], ids=["none is equal", "all are", "nothing is said"])
def test_a_trial_that_does_not_tell_decides_nothing(far):
    """
    A port that is wrong elsewhere, outputs that do not depend on it: still no guess.
    """
    with pytest.raises(WeightError, match="a trial does not tell either"):
        find(*doubtful(), trial=lambda weights: far)


def test_order_is_proven_wrong_by_a_trial():
    """
    Two layers of no telling names are exchanged in the port, in definition and run: outputs tell.
    """
    theirs = model("torch", [("alpha", "LayerNorm", (4,)), ("omega", "LayerNorm", (4,))])
    ours = model("paddle", [("zebra", "LayerNorm", (4,)), ("yak", "LayerNorm", (4,))])

    def trial(weights):
        return {"": 0.0 if weights.links(["yak.weight"])[0].theirs == "alpha.weight" else 0.5}

    assert fed(find(theirs, ours, trial=trial)) == {"zebra": "omega", "yak": "alpha"}


PACKED = Inventory(
    "torch",
    (
        Tensor("h.0.attn.c_attn.weight", (4, 12), "Conv1D"),
        Tensor("h.0.attn.c_attn.bias", (12,), "Conv1D"),
        Tensor("h.0.attn.c_proj.weight", (4, 4), "Conv1D"),
        Tensor("h.0.attn.c_proj.bias", (4,), "Conv1D"),
    ),
    ("h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.attn"),
)
UNPACKED = model("paddle", [(f"layers.0.self_attn.{n}_proj", "Linear", (4, 4)) for n in ("q", "k", "v", "out")])


def test_packed_attention_feeds_three():
    """
    c_attn falls into q, k and v along the axis that is three times as long; the way back packs them again.
    """
    found = find(PACKED, UNPACKED)
    rng = np.random.default_rng(0)
    theirs = {t.name: rng.normal(size=t.shape) for t in PACKED.tensors}
    ours = dict(found.weights.convert(theirs, {t.name: t.shape for t in UNPACKED.tensors}))
    assert np.array_equal(ours["layers.0.self_attn.k_proj.weight"], theirs["h.0.attn.c_attn.weight"][:, 4:8])
    assert np.array_equal(ours["layers.0.self_attn.v_proj.bias"], theirs["h.0.attn.c_attn.bias"][8:])
    back = dict(found.weights.revert(ours))
    assert back.keys() == theirs.keys()
    assert all(np.array_equal(back[name], theirs[name]) for name in theirs)
    assert "one of one side for several" in found.reasons["layers.0.self_attn.q_proj.weight"]
    assert "layers.0.self_attn.q_proj" not in found.weights.modules(found.reasons)


def test_three_feed_packed_attention():
    """
    The other way: the packed one is ours; parts of other sizes (fewer keys than queries) too.
    """
    theirs = model("torch", [("attn.q_proj", "Linear", (8, 4)), ("attn.k_proj", "Linear", (2, 4)),
                             ("attn.v_proj", "Linear", (2, 4))])  # fmt: skip
    ours = model("paddle", [("attn.qkv", "Linear", (12, 4))])
    found = find(theirs, ours)
    names = tuple(f"attn.{n}_proj.weight" for n in "qkv")
    assert found.weights.rules[0] == Rule(names, "attn.qkv.weight", transpose=True, shares=(4, 1, 1))


def test_experts_in_a_list_feed_one_tensor():
    """
    Three matrices (out, in) make one (3, in, out); all of them are used.
    """
    theirs = Inventory("torch", tuple(Tensor(f"mlp.experts.{k}.up.weight", (6, 4), "Linear") for k in range(3)))
    ours = Inventory("paddle", (Tensor("mlp.experts.up", (3, 4, 6), "Experts"),))
    names = tuple(f"mlp.experts.{k}.up.weight" for k in range(3))
    assert find(theirs, ours).weights.rules == (Rule(names, "mlp.experts.up", transpose=True, stack=True),)
    back = find(replaced(ours, "torch"), replaced(theirs, "paddle"))
    assert [rule.part for rule in back.weights.rules] == [(0, 3), (1, 3), (2, 3)]


def replaced(inventory, framework):
    """The same model in another framework."""
    return Inventory(framework, inventory.tensors, inventory.ran)


def test_a_square_matrix_of_no_known_kind_is_turned_as_others_of_its_kind():
    """
    Alone it is an error that names both ways, by rules= it is decided.
    """
    theirs = [Tensor("a.weight", (4, 4), "Dense"), Tensor("wide.weight", (6, 4), "Dense")]
    ours = [Tensor("a.weight", (4, 4), "Dense"), Tensor("wide.weight", (4, 6), "Dense")]
    found = find(Inventory("torch", tuple(theirs)), Inventory("paddle", tuple(ours)))
    assert all(rule.transpose for rule in found.weights.rules)
    assert found.reasons["a.weight"] == "by name, turned as others"
    alone = Inventory("torch", tuple(theirs[:1])), Inventory("paddle", tuple(ours[:1]))
    with pytest.raises(WeightError, match=r'Rule\("a.weight", "a.weight", transpose=True\)'):
        find(*alone)
    given = Rule("a.weight", "a.weight")
    assert find(*alone, rules=[given]).weights.rules == (given,)


def test_running_statistics_are_mapped_and_tables_are_not():
    """
    running_var feeds _variance; a rotary table that no checkpoint holds is left out on both sides, with that word.
    """
    leaves = ("weight", "bias", "running_mean", "running_var"), ("weight", "bias", "_mean", "_variance")
    kinds = ("parameter", "parameter", "buffer", "buffer")
    sides = []
    for framework, names in zip(("torch", "paddle"), leaves, strict=True):
        tensors = [Tensor(f"bn.{n}", (4,), "BatchNorm", kind) for n, kind in zip(names, kinds, strict=True)]
        tensors.append(Tensor(f"rotary.{framework}_inv_freq", (2,), "Rotary", "passing"))
        sides.append(Inventory(framework, tuple(tensors)))
    found = find(*sides)
    assert found.pairs["bn._variance"] == "bn.running_var" and found.pairs["bn._mean"] == "bn.running_mean"
    assert "derived" in found.weights.reason_dropped("rotary.torch_inv_freq")
    assert "derived" in found.weights.reason_kept("rotary.paddle_inv_freq")


@pytest.mark.parametrize("side", ["theirs", "ours"])
def test_a_tensor_of_one_side_alone_is_left_out_only_if_nothing_reads_it(side):
    """
    An unused pooler has a reason; one that takes part is an error that names it.
    """
    pooler = [("pooler", "Linear", (5, 4))]

    def both(**more):
        long, short = model("torch" if side == "theirs" else "paddle", BERT + pooler, **more), BERT
        other = model("paddle" if side == "theirs" else "torch", short)
        return (long, other) if side == "theirs" else (other, long)

    with pytest.raises(WeightError, match=rf"without a counterpart in {side}: pooler.weight"):
        find(*both())
    found = find(*both(idle=lambda names: list(names)))
    told = found.weights.reason_dropped if side == "theirs" else found.weights.reason_kept
    assert told("pooler.weight") == "no output reads it"
    if side == "theirs":
        assert find(*both(), drop={"pooler.weight": "by hand", "pooler.bias": "by hand"})


def test_what_theirs_ties_and_ours_does_not_is_said():
    """
    The head's own matrix is filled with the embedding, and the note tells; the other one is no name to lose.
    """
    theirs = Inventory("torch", (Tensor("embed.weight", (9, 4), "Embedding", aliases=("lm_head.weight",)),))
    ours = Inventory("torch", (Tensor("embed.weight", (9, 4), "Embedding"), Tensor("lm_head.weight", (9, 4), "Linear")))
    found = find(theirs, ours)
    assert found.tied == {"lm_head.weight": "embed.weight"}
    assert any("tied in theirs, not in ours" in note for note in found.notes)


def test_layers_of_layers_are_paired_where_they_hold_the_same():
    """
    encoder.layer.3 and encoder.layers.3 are comparable; a list that never runs is not, nor a Linear that one side runs.
    """
    ran = [path for path, *_ in BERT]
    ran += [f"encoder.layer.{k}" for k in range(12)] + ["encoder"]
    ours = [path for path, *_ in OURS] + [f"encoder.layers.{k}" for k in range(12)] + ["encoder"]
    ours.remove("embeddings.words")
    found = find(model("torch", BERT, ran=ran), model("paddle", OURS, ran=ours))
    modules = found.weights.modules(found.reasons)
    assert modules["encoder.layers.3"] == "encoder.layer.3" and modules["encoder"] == "encoder"
    assert modules["encoder.layers.3.linear2"] == "encoder.layer.3.output.dense"
    assert "embeddings.words" not in modules and "encoder.layers" not in modules


def test_the_found_map_prints_itself():
    """
    As source that makes it again.
    """
    weights = find(PACKED, UNPACKED).weights
    assert eval(str(weights), {"WeightMap": WeightMap, "Rule": Rule}) == weights


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("encoder.self_attn.qProj", "encoder self attention query linear"),
        ("LayerNorm.gamma", "norm weight"),
        ("layer_norm.weight", "norm weight"),
        ("bn1.running_var", "norm 1 variance"),
        ("h.attn.wte", "layer attention word embedding"),
    ],
)
def test_names_fall_into_words_that_ports_share(name, words):
    """
    At dots, underscores, digits and capitals; what one calls gamma is another's weight.
    """
    assert split(name) == words.split()


def test_a_list_is_entered_at_the_same_place():
    """
    The second of three is the second of three whatever they are numbered; of a list of another length nothing is known.
    """
    theirs = ["a.0", "a.1", "a.2"]
    names = Names(theirs, ["a.1", "a.2", "a.3"])
    assert names.distance("a.0", "a.1") == 0 and names.distance("a.1", "a.1") == 1
    assert Names(theirs, ["a.0", "a.1"]).distance("a.0", "a.1") == 0
