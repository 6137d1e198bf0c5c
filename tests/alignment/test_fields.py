"""No field of a configuration or recipe is ignored, none can be taken for another, and defaults are the reference's."""

import importlib
from dataclasses import MISSING, asdict, fields, replace
from functools import cache

import field_table as table
import planted
import pytest
from tolerances import row

from splinter.align import Pair, steps
from splinter.align.files import WeightError
from splinter.ports import SYSTEMS
from splinter.ports.common.training.schedule import Recipe
from splinter.ports.funnel.tasks import SIZES as FUNNEL_SIZES
from splinter.ports.jointbert.data import MAX_LENGTH
from splinter.ports.jointbert.model import JointBert
from splinter.ports.multitask.model import MultitaskBert
from splinter.ports.splinter.model import SplinterModel
from splinter.ports.splinter.tasks import Sizes

MODELS = {"splinter": SplinterModel, "jointbert": JointBert, "multitask": MultitaskBert}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A field that is wrong shows soon."""
    monkeypatch.setattr(steps, "INIT_SEEDS", 2)
    monkeypatch.setattr(steps, "OPTIMIZER_UPDATES", 40)
    planted.forget()
    yield
    planted.forget()


@cache
def of_checkpoints(system):
    """The configurations of a system's tiny checkpoints."""
    read = importlib.import_module(f"splinter.ports.{system}.config").read_checkpoint
    return [read(folder())[0] for folder in table.FOLDERS[system]]


def quickened(port, count=2):
    """A port with its first batches."""
    batches = port.batches
    return replace(port, batches=lambda folder, mode: dict([*batches(folder, mode).items()][:count]))


def red(port, mode, step):
    """Whether a step of a port is red."""
    pair = Pair(port, mode, "tiny", port.checkpoints["tiny"](), "float64")
    return (
        not getattr(steps, step)(pair)
        .judge(row(port, "regularization" if step == "dropout" else step, "float64"))
        .passed
    )


def place(system, seen):
    """The port and the mode in which a field shows."""
    port = quickened(table.PORTS[seen.port or system], 1 if seen.step == "dropout" else 2)
    return port, seen.mode or port.modes[0]


def classes(system, mode):
    """The model classes of our side: what they are built with decides all that they do."""
    if system == "funnel":
        return [importlib.import_module("splinter.ports.funnel.model").MODELS[mode]]
    return [MODELS[system]]


def other(system, name, seen, stored):
    """What our side reads in place of what the checkpoint has."""
    value = getattr(stored, name)
    default = next(field.default for field in fields(stored) if field.name == name)
    if seen.value is not None:
        return seen.value
    if default is not MISSING and default != value:
        return default
    return (not value) if isinstance(value, bool) else value + 1


def misread(patch, system, mode, name, value):
    """Our models are built with another value of a field."""
    for kind in classes(system, mode):
        planted.wrap(
            patch, kind, "__init__", lambda init: lambda self, config: init(self, replace(config, **{name: value}))
        )


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_field_has_a_row(system):
    """Found by inspection: a new field is missing here until somebody says where it shows."""
    assert list(table.NOTICED[system]) and set(table.NOTICED[system]) == set(table.names(table.CONFIGS[system]))


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_field_that_our_side_misreads_is_noticed(system, monkeypatch):
    """The step named in the table turns red, and is green without."""
    wrong, green = [], set()
    for name, seen in table.NOTICED[system].items():
        if isinstance(seen, table.Unseen):
            continue
        port, mode = place(system, seen)
        folder = port.checkpoints["tiny"]()
        stored = importlib.import_module(f"splinter.ports.{system}.config").read_checkpoint(folder)[0]
        value = other(system, name, seen, stored)
        replace(stored, **{name: value})  # a value that is not allowed would be noticed by itself
        if (port.name, mode, seen.step) not in green:
            if seen.step == "load":
                port.ours(mode).load(folder)  # the weights fit without a fault
            else:
                assert not red(port, mode, seen.step), f"{seen.step} of {port.name} is red without a fault"
            green.add((port.name, mode, seen.step))
        with monkeypatch.context() as patch:
            misread(patch, system, mode, name, value)
            planted.forget()
            if seen.step == "load":
                try:
                    port.ours(mode).load(folder)
                    wrong.append(f"{name} = {value}: the weights fit")
                except (WeightError, ValueError):
                    pass
            elif not red(port, mode, seen.step):
                wrong.append(f"{name} = {value}: {seen.step} is green")
        planted.forget()
    assert not wrong, "; ".join(wrong)


@pytest.mark.parametrize("system", SYSTEMS)
def test_fields_without_effect_have_a_reason_that_holds(system, monkeypatch):
    """A field that is said to change nothing changes no output, else its reason is stale."""
    port = quickened(table.PORTS[system])
    for name, seen in table.NOTICED[system].items():
        if isinstance(seen, table.Unseen):
            assert seen.why and seen.value is not None
            with monkeypatch.context() as patch:
                misread(patch, system, port.modes[0], name, seen.value)
                assert not red(port, port.modes[0], "forward"), f"{name} is seen by the forward step"


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_field_of_the_tiny_checkpoints_is_at_its_default(system):
    """A side that reads the default instead shows; exceptions have a reason, and none that is not needed."""
    made = of_checkpoints(system)
    at_default = {
        field.name for field in fields(made[0]) if all(getattr(one, field.name) == field.default for one in made)
    }
    assert at_default == set(table.AT_DEFAULT[system])


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_two_fields_of_a_kind_are_alike(system):
    """Numbers of one type differ from each other in some tiny checkpoint: a field taken for another shows."""
    made = of_checkpoints(system)
    alike = []
    kinds = ("int", "float", "tuple[int, ...]")
    numbers = [field for field in fields(made[0]) if field.type.removesuffix(" | None") in kinds]
    for i, one in enumerate(numbers):
        for two in numbers[:i]:
            pairs = [(getattr(config, one.name), getattr(config, two.name)) for config in made]
            if one.type == two.type and all(a == b for a, b in pairs):
                alike.append((one.name, two.name))
    assert not alike
    for config in made:
        heads, size = (
            (config.n_head, config.d_head)
            if system == "funnel"
            else (config.num_attention_heads, config.hidden_size // config.num_attention_heads)
        )
        assert heads not in (size, size**0.5), "1 / heads must not be taken for 1 / sqrt(size)"


# -- defaults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("system", SYSTEMS)
def test_defaults_are_the_reference_s(system):
    """Those of transformers' class; what it lacks, or has otherwise, is restated once, with its source."""
    ours, theirs, restated = table.CONFIGS[system](), table.REFERENCES[system](), table.RESTATED[system]
    wrong = []
    for name in table.names(table.CONFIGS[system]):
        if name in restated:
            value, source = restated[name]
            assert source
            stale = hasattr(theirs, name) and plain(getattr(theirs, name)) == plain(value)
            assert not stale, f"{name}: transformers has {value} too; take it out of the table"
        else:
            value = getattr(theirs, name)
        if plain(getattr(ours, name)) != plain(value):
            wrong.append(f"{name}: {getattr(ours, name)!r}, the reference has {value!r}")
    assert not wrong, "; ".join(wrong)
    assert set(restated) <= set(table.names(table.CONFIGS[system]))


def plain(value):
    """Lists as tuples."""
    return tuple(value) if isinstance(value, list) else value


# -- recipes ----------------------------------------------------------------------------------------------

TRAINED = [
    pytest.param(port, mode, id=f"{port.name}-{mode}")
    for port in table.PORTS.values()
    if "lr" in port.steps
    for mode in port.modes
]


def test_every_field_of_a_recipe_has_a_row():
    """In both tables."""
    assert set(table.STEP_OF) == set(table.READ_IN) == set(table.names(Recipe))


def changed(value):
    """Another value of the same kind."""
    if isinstance(value, str):
        return {"linear": "constant", "constant": "linear", "from-start": "linear", "hf": "bert", "bert": "hf"}[value]
    return value + 1 if isinstance(value, int) else value * 1.1 + 1e-3


@pytest.mark.parametrize(("port", "mode"), TRAINED)
def test_a_wrong_default_of_a_recipe_is_noticed(port, mode):
    """Both sides state every field, theirs in a place of its own, and a step compares it."""
    theirs, ours = (side(mode).hyperparameters() for side in (port.theirs, port.ours))
    assert set(theirs) == set(ours) == set(table.names(Recipe))
    wrong = replace(port.ours(mode), hyperparameters=lambda: {name: changed(value) for name, value in ours.items()})
    silent = []
    for step in sorted(set(table.STEP_OF.values())):
        compared = [name for name, where in table.STEP_OF.items() if where == step]
        if step not in port.steps:
            assert {name: ours[name] for name in compared} == {name: theirs[name] for name in compared}
            continue
        planted_in = replace(port, ours=lambda mode: wrong, batches=lambda folder, mode: {})
        pair = Pair(planted_in, mode, "tiny", port.checkpoints["tiny"](), "float64")
        found = getattr(steps, step)(pair).judge(row(port, step, "float64"))
        failed = {one.name for one in found.comparisons if not one.passed}
        silent += [name for name in compared if f"default {name}" not in failed]
    assert not silent


@pytest.mark.parametrize(("port", "mode"), TRAINED)
def test_a_field_of_a_recipe_that_our_side_ignores_is_noticed(port, mode):
    """The default in place of what the recipe says; the step is green without."""
    port, wrong, default = quickened(port), [], Recipe(**port.ours(mode).hyperparameters())
    side, green = port.ours(mode), set()
    for name, where in table.READ_IN.items():
        if isinstance(where, table.Unseen) or (step := {"rates": "lr"}.get(where, where)) not in port.steps:
            continue
        if step not in green:
            assert not red(port, mode, step), f"{step} of {port.name} is red without a fault"
            green.add(step)

        def deaf(recipe, name=name):
            value = getattr(default, name)
            return replace(recipe, **{name: changed(value) if value == getattr(recipe, name) else value})

        ignoring = (
            replace(side, rates=lambda count, recipe: side.rates(count, deaf(recipe)))
            if where == "rates"
            else replace(side, optimizer=lambda named, recipe, names: side.optimizer(named, deaf(recipe), names))
        )
        if not red(replace(port, ours=lambda mode, ignoring=ignoring: ignoring), mode, step):
            wrong.append(name)
    assert not wrong


def test_what_the_steps_train_with_is_nobody_s_default():
    """A default in its place shows; the formulas alone are those of the port."""
    for port in table.PORTS.values():
        for mode in port.modes:
            if "lr" in port.steps:
                recipe, defaults = port.recipe(), port.ours(mode).hyperparameters()
                same = {name for name in table.names(Recipe) if getattr(recipe, name) == defaults[name]}
                assert same <= {"schedule", "optimizer", "micro_batch"}, (port.name, mode, same)


@pytest.mark.parametrize(
    ("found", "published"),
    [
        # oriram/splinter, README: --max_seq_length=384 --doc_stride=128; the query length is that of its old SQuAD code
        (Sizes(), {"max_length": 384, "doc_stride": 128, "max_query_length": 64}),
        # laiguokun/Funnel-Transformer's runs of GLUE and of SQuAD
        (FUNNEL_SIZES["classification"], {"max_length": 128, "doc_stride": 128, "max_query_length": 64}),
        (FUNNEL_SIZES["answering"], {"max_length": 512, "doc_stride": 128, "max_query_length": 64}),
        # monologg/JointBERT, main.py: --max_seq_len
        (MAX_LENGTH, 50),
    ],
    ids=["splinter", "funnel classification", "funnel answering", "jointbert"],
)
def test_default_sizes_are_those_of_the_published_runs(found, published):
    """No step reads them, since the tiny checkpoints have sizes of their own; in word pieces."""
    assert published == (found if isinstance(found, int) else asdict(found))
