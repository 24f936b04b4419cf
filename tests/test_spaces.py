"""Search spaces: groups, conditions, constraints, and cells held against plain enumeration."""

import itertools
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from satdet.config import ConfigError, TrialConfig, flatten, with_values
from search_spaces.declare import Choice, Constant, Forbid, Fragments, IntUniform, SearchSpace, Uniform, When

BASE = TrialConfig()
BACKBONE, BATCH, EPOCHS = "detector.backbone", "training.batch_size", "training.epochs"


def cells(space, base=BASE):
    return list(space.cells(base))


def test_groups_may_be_nested_and_mixed_with_paths():
    nested = SearchSpace(
        {
            "optimizer": {"name": Choice("adam", "sgd"), "momentum": Choice(0.5)},
            "detector.freezing": {"mode": Choice("none")},
        }
    )
    flat = SearchSpace(
        {
            "optimizer.name": Choice("adam", "sgd"),
            "optimizer.momentum": Choice(0.5),
            "detector.freezing.mode": Choice("none"),
        }
    )
    assert nested == flat
    assert nested.paths == ("optimizer.name", "optimizer.momentum", "detector.freezing.mode")


def test_the_first_condition_that_holds_decides():
    space = SearchSpace(
        {BACKBONE: Choice("resnet18", "resnet50", "resnet101"), BATCH: Choice(8)},
        conditions=(
            When("detector.backbone == 'resnet101'", {BATCH: Choice(1)}),
            When("detector.backbone != 'resnet18'", {BATCH: Choice(2, 4), EPOCHS: Choice(7)}),
        ),
    )
    assert cells(space) == [
        {BACKBONE: "resnet18", BATCH: 8},
        {BACKBONE: "resnet50", BATCH: 2, EPOCHS: 7},
        {BACKBONE: "resnet50", BATCH: 4, EPOCHS: 7},
        {BACKBONE: "resnet101", BATCH: 1, EPOCHS: 7},
    ]


def test_conditions_in_a_chain_are_followed_whatever_their_order():
    space = SearchSpace(
        {},
        conditions=(
            When("training.batch_size == 4", {EPOCHS: Choice(5, 6)}),
            When("detector.backbone == 'resnet34'", {BATCH: Choice(2, 4)}),
            When("evaluation.every == 1", {BACKBONE: Choice("resnet18", "resnet34")}),
        ),
    )
    assert cells(space) == [
        {BACKBONE: "resnet18"},
        {BATCH: 2, BACKBONE: "resnet34"},
        {EPOCHS: 5, BATCH: 4, BACKBONE: "resnet34"},
        {EPOCHS: 6, BATCH: 4, BACKBONE: "resnet34"},
    ]
    assert cells(space, with_values(BASE, {"evaluation.every": 2})) == [{}]


def test_a_condition_sees_what_fragments_set_and_their_name():
    space = SearchSpace(
        {"recipe": Fragments(short={EPOCHS: 5}, long={EPOCHS: 50})},
        conditions=(
            When("training.epochs > 10", {BATCH: Choice(2, 4)}),
            When("recipe == 'short'", {BATCH: Choice(8)}),
        ),
    )
    assert cells(space) == [{"recipe": "short", BATCH: 8}, {"recipe": "long", BATCH: 2}, {"recipe": "long", BATCH: 4}]
    assert space.expand({"recipe": "long", BATCH: 2}) == {EPOCHS: 50, BATCH: 2}


def test_fragments_that_do_not_count_are_none_to_conditions():
    space = SearchSpace(
        {BACKBONE: Choice("resnet18", "resnet50")},
        conditions=(When("detector.backbone == 'resnet50'", {"recipe": Fragments(a={EPOCHS: 5}, b={EPOCHS: 6})}),),
        constraints=(Forbid("recipe == 'a'", because="a is not for us"),),
    )
    assert cells(space) == [{BACKBONE: "resnet18"}, {BACKBONE: "resnet50", "recipe": "b"}]


@pytest.mark.parametrize(
    "conditions",
    [
        [("training.epochs == 5", BATCH), ("training.batch_size == 2", EPOCHS)],
        [("training.epochs == 5", EPOCHS)],
        [
            ("training.epochs == 5", BATCH),
            ("training.batch_size == 2", "evaluation.every"),
            ("evaluation.every == 2", EPOCHS),
        ],
    ],
)
def test_circles_are_refused(conditions):
    with pytest.raises(ConfigError, match="in a circle") as raised:
        SearchSpace({}, conditions=[When(text, {path: Choice(2, 5)}) for text, path in conditions])
    assert all(path in str(raised.value) for _, path in conditions)


def test_a_circle_through_fragments_is_refused():
    with pytest.raises(ConfigError, match="in a circle"):
        SearchSpace(
            {},
            (
                When("training.epochs == 5", {BATCH: Choice(2)}),
                When("training.batch_size == 2", {"kind": Fragments(a={EPOCHS: 5})}),
            ),
        )


def test_cells_that_cannot_run_are_skipped_with_their_reasons():
    space = SearchSpace(
        {"tiles.size": Choice(128, 512), BATCH: Choice(4, 64), "augmentation.crop": Choice(None, 256)},
        constraints=(
            Forbid("tiles.size * training.batch_size > 8192", because="8 GiB"),
            Forbid("augmentation.crop == None and tiles.size == 128", because="no use"),
        ),
    )
    reasons = {tuple(each.values.values()): each.reason for each in space.skipped(BASE)}
    crop = "augmentation.crop = 256 is larger than tiles.size = 128"
    assert reasons == {
        (128, 4, None): "no use", (128, 64, None): "no use", (128, 4, 256): crop, (128, 64, 256): crop,
        (512, 64, None): "8 GiB", (512, 64, 256): "8 GiB",
    }  # fmt: skip
    assert cells(space) == [
        {"tiles.size": 512, BATCH: 4, "augmentation.crop": None},
        {"tiles.size": 512, BATCH: 4, "augmentation.crop": 256},
    ]


OPTIONS = {
    BACKBONE: ("resnet18", "resnet34", "resnet50"),
    BATCH: (1, 2, 4),
    EPOCHS: (5, 10, 20),
    "training.empty_tiles": (False, True),
}
CONDITIONS = [
    "detector.backbone == 'resnet18'", "detector.backbone in ('resnet34', 'resnet50')", "training.batch_size > 1",
    "training.batch_size * training.epochs > 20", "not training.empty_tiles",
    "training.epochs == 10 or training.empty_tiles",
]  # fmt: skip


@st.composite
def spaces(draw):
    """Spaces whose conditions look back in the order of OPTIONS, so that there is no circle."""
    paths = list(OPTIONS)
    chosen = draw(
        st.lists(st.sampled_from(paths), min_size=1, unique=True).map(lambda some: sorted(some, key=paths.index))
    )
    domains = {
        path: Choice(*draw(st.lists(st.sampled_from(OPTIONS[path]), min_size=1, unique=True))) for path in chosen
    }
    conditions = []
    for text in draw(st.lists(st.sampled_from(CONDITIONS), max_size=3)):
        later = [path for place, path in enumerate(paths) if all(read not in text for read in paths[place:])]
        if later:
            path = draw(st.sampled_from(later))
            conditions.append(
                (text, path, tuple(draw(st.lists(st.sampled_from(OPTIONS[path]), min_size=1, unique=True))))
            )
    return domains, conditions, draw(st.lists(st.sampled_from(CONDITIONS), max_size=2))


def says(text, values):
    for path, value in values.items():
        text = text.replace(path, repr(value))
    return bool(eval(text))


def enumerated(domains, conditions, forbidden):
    """Each combination of everything that any path may be, kept if the conditions lead there."""
    everything = [dict(zip(OPTIONS, values, strict=True)) for values in itertools.product(*(
        dict.fromkeys((*OPTIONS[path], flatten(BASE)[path])) for path in OPTIONS
    ))]  # fmt: skip
    found = set()
    for values in everything:
        point = {}
        for path, value in values.items():
            holding = [options for text, of, options in conditions if of == path and says(text, values)]
            options = holding[0] if holding else domains[path].options if path in domains else None
            if value not in ((flatten(BASE)[path],) if options is None else options):
                break
            if options is not None:
                point[path] = value
        else:
            if not any(says(text, values) for text in forbidden):
                found.add(frozenset(point.items()))
    return found


@settings(max_examples=60, deadline=None)
@given(spaces())
def test_cells_are_those_of_plain_enumeration(declared):
    domains, conditions, forbidden = declared
    space = SearchSpace(
        domains,
        tuple(When(text, {path: Choice(*options)}) for text, path, options in conditions),
        tuple(Forbid(text, because="so") for text in forbidden),
    )
    found = [frozenset(cell.items()) for cell in space.cells(BASE)]
    assert len(set(found)) == len(found)
    assert set(found) == enumerated(domains, conditions, forbidden)
    back = SearchSpace.of_json(json.loads(json.dumps(space.to_json())))
    assert back == space and hash(back) == hash(space) and cells(back) == cells(space)


FULL = SearchSpace(
    {
        BACKBONE: Choice("resnet18", "resnet101"),
        "optimizer.momentum": Uniform(0, 1),
        "recipe": Fragments(short={EPOCHS: 5, "detector.aspect_ratios": (0.5, 1)}, long={EPOCHS: 50}),
    },
    conditions=(When("detector.backbone == 'resnet101'", {BATCH: IntUniform(1, 4)}),),
    constraints=(Forbid("training.batch_size > 3", because="memory"),),
)


def test_the_digest_does_not_change_with_the_code():
    """Records name spaces by it: if this fails, searches that have begun cannot be resumed."""
    assert FULL.digest() == "3d4f98d7b8d3b2ce"
    assert SearchSpace().digest() == "25f4e23fbcc13f2c"


def test_spaces_come_back_equal():
    for back in (SearchSpace.of_json(json.loads(json.dumps(FULL.to_json()))), pickle.loads(pickle.dumps(FULL))):
        assert back == FULL
        assert back.digest() == FULL.digest()
        assert hash(back) == hash(FULL)


def test_spaces_that_differ_differ():
    domains, conditions, constraints = dict(FULL.domains), FULL.conditions, FULL.constraints
    others = [
        SearchSpace(domains, conditions, ()),
        SearchSpace(domains, (), constraints),
        SearchSpace({**domains, BACKBONE: Choice("resnet101", "resnet18")}, conditions, constraints),
        SearchSpace(dict(reversed(domains.items())), conditions, constraints),  # other numbers for the cells
        SearchSpace(domains, conditions, (Forbid("training.batch_size > 3", because="time"),)),
    ]
    assert len({each.digest() for each in [FULL, *others]}) == len(others) + 1
    assert all(each != FULL for each in others)


def test_what_it_was_made_of_can_change_without_it():
    group = {"momentum": Choice(0.5)}
    domains, conditional = {"optimizer": group, BATCH: Choice(1)}, {EPOCHS: Choice(3)}
    conditions = [When("training.batch_size == 1", conditional)]
    space = SearchSpace(domains, conditions, [])
    before = space.digest()
    group["momentum"], domains[EPOCHS], conditional[EPOCHS] = Choice(0.1), Choice(1), Choice(9)
    conditions.clear()
    assert space.digest() == before
    assert cells(space) == [{"optimizer.momentum": 0.5, BATCH: 1, EPOCHS: 3}]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        (lambda: SearchSpace({"optimizer.weigth_decay": Choice(0.0)}), "did you mean 'optimizer.weight_decay'"),
        (lambda: SearchSpace({"optimizer": {"learning_rte": Choice(0.1)}}), "did you mean 'optimizer.learning_rate'"),
        (lambda: SearchSpace({}, (When("detector.bakbone == 'a'", {BATCH: Choice(1)}),)), "mean 'detector.backbone'"),
        (lambda: SearchSpace({}, (When("training.epochs == 2", {"batch_size": Choice(1)}),)), "'training.batch_size'"),
        (lambda: SearchSpace({}, (), (Forbid("trainig.epochs > 3", because="so"),)), "did you mean 'training.epochs'"),
        (lambda: SearchSpace({"recipe": Fragments(a={"training.epoch": 3})}), "did you mean 'training.epochs'"),
        (lambda: SearchSpace({"recipe": Fragments(a={EPOCHS: 0})}), "training.epochs = 0 is below its minimum"),
        (lambda: SearchSpace({BATCH: 4}), "training.batch_size = 4 is not a domain; write Choice"),
        (lambda: SearchSpace({BATCH: [2, 4]}), "is not a domain"),
        (lambda: Forbid("training.epochs > 3", because=""), "gives no reason"),
        (lambda: SearchSpace({EPOCHS: Choice(1), "recipe": Fragments(a={EPOCHS: 3})}), "epochs would be set twice"),
        (lambda: SearchSpace({"one": Fragments(a={EPOCHS: 3}), "two": Fragments(a={EPOCHS: 3})}), "set twice"),
        (lambda: SearchSpace({EPOCHS: Fragments(a={BATCH: 3})}), "a name of their own"),
        (lambda: SearchSpace({"nothing": Constant(1)}), "unknown key 'nothing'"),
        (lambda: list(SearchSpace({"optimizer.momentum": Uniform(0, 1)}).cells()), "optimizer.momentum: a grid needs"),
    ],
)  # fmt: skip
def test_what_is_misspelt_or_cannot_be_is_named(wrong, expected):
    with pytest.raises(ConfigError) as raised:
        wrong()
    assert expected in str(raised.value)
