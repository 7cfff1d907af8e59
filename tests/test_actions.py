"""Each class does what its name says: where things are before, during and after, camera at rest."""

import numpy as np
import pytest

from lib import miniature
from lib.data.labels import CLASSES_40, REVERSED
from lib.miniature import actions
from lib.miniature.drawing import FRAME, HAND, OBJECT, SECOND, affine, render
from lib.miniature.scenes import Vessel, absence, smooth

SEEDS = range(4)
WIDE = 2 * FRAME  # sees what is a little outside the frame, too


def stage(name, seed):
    script, backwards = actions.SCRIPTS[name]
    scene = script(np.random.default_rng(seed), "train")
    return scene, (lambda u: 1 - u if backwards else u)


def roles(name, seed, u, size=FRAME):
    scene, progress = stage(name, seed)
    camera = affine(size / 2, size / 2)
    return render(scene.layers(progress(u)), camera, (size, size))[1]


def area(roles, role):
    return int((roles == role).sum())


def middle(roles, role):
    y, x = np.nonzero(roles == role)
    return np.array([x.mean(), y.mean()])


def test_every_class_has_its_script():
    assert set(actions.SCRIPTS) == set(CLASSES_40) == set(miniature.CLASSES)


@pytest.mark.parametrize("name", sorted(REVERSED))
def test_a_reversal_is_the_same_script_backwards(name):
    (script, backwards), (other, other_backwards) = (
        actions.SCRIPTS[name],
        actions.SCRIPTS[REVERSED[name]],
    )
    assert script is other and backwards != other_backwards


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "name, direction",
    [
        ("Moving [something] from left to right", (1, 0)),
        ("Moving [something] from right to left", (-1, 0)),
        ("Moving [something] down", (0, 1)),
        ("Dropping [something]", (0, 1)),
    ],
)
def test_things_move_as_the_name_says(name, direction, seed):
    path = middle(roles(name, seed, 1, WIDE), OBJECT) - middle(
        roles(name, seed, 0.15, WIDE), OBJECT
    )
    if name.startswith("Dropping"):  # it may be carried in first: from when it is let go
        path = middle(roles(name, seed, 1, WIDE), OBJECT) - middle(
            roles(name, seed, 0.24, WIDE), OBJECT
        )
    assert path @ direction > 30


@pytest.mark.parametrize("seed", SEEDS)
def test_towards_the_camera_is_larger(seed):
    name = "Moving [something] towards the camera"
    assert area(roles(name, seed, 1, WIDE), OBJECT) > 2 * area(roles(name, seed, 0, WIDE), OBJECT)


@pytest.mark.parametrize("seed", SEEDS)
def test_closer_is_closer(seed):
    name = "Moving [something] closer to [something]"
    before, after = (
        np.linalg.norm(np.subtract(*(middle(r, role) for role in (OBJECT, SECOND))))
        for r in (roles(name, seed, 0, WIDE), roles(name, seed, 1, WIDE))
    )
    assert after < before - 20


@pytest.mark.parametrize("seed", SEEDS)
def test_putting_leaves_it_there_and_picking_up_does_not(seed):
    put = roles("Putting [something]", seed, 0), roles("Putting [something]", seed, 1)
    assert area(put[0], OBJECT) == 0 and area(put[1], OBJECT) > 100 and area(put[1], HAND) == 0
    picked = roles("Picking [something] up", seed, 1)
    assert area(picked, OBJECT) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_pretending_changes_nothing(seed):
    for name, here in [
        ("Pretending to pick [something] up", True),
        ("Pretending to take [something] from [somewhere]", True),
        ("Pretending to put [something] on a surface", False),
        ("Pretending to put [something] next to [something]", False),
    ]:
        before, during, after = (roles(name, seed, u) for u in (0, 0.45, 1))
        assert np.array_equal(before, after)
        assert (area(after, OBJECT) > 0) == here
        assert area(before, HAND) == 0 and area(during, HAND) > 50
        assert area(during, OBJECT) > 20


@pytest.mark.parametrize("seed", SEEDS)
def test_poking_and_pushing(seed):
    def shift(name, u):
        return np.linalg.norm(
            middle(roles(name, seed, u, WIDE), OBJECT) - middle(roles(name, seed, 0, WIDE), OBJECT)
        )

    assert shift("Poking [something]", 1) < 0.5
    assert 8 < shift("Pushing [something] so that it slightly moves", 1) < 20
    assert shift("Pushing [something] with [something]", 1) > 24


@pytest.mark.parametrize("seed", SEEDS)
def test_covers_cover(seed):
    name = "Uncovering [something]"
    assert area(roles(name, seed, 0), OBJECT) == 0 < area(roles(name, seed, 0), SECOND)
    assert area(roles(name, seed, 1), OBJECT) > 150


@pytest.mark.parametrize("seed", SEEDS)
def test_into_a_vessel_is_behind_its_front(seed):
    name = "Putting [something] into [something]"
    above, inside = roles(name, seed, 0.4, WIDE), roles(name, seed, 1, WIDE)
    lowest = [np.nonzero(inside == role)[0].max() for role in (OBJECT, SECOND)]
    assert lowest[0] < lowest[1]
    assert middle(inside, OBJECT)[1] > middle(above, OBJECT)[1] + 8


@pytest.mark.parametrize("seed", SEEDS)
def test_tearing_parts_the_sheet(seed):
    name = "Tearing [something]"
    y, x = np.nonzero(roles(name, seed, 0, WIDE) == OBJECT)
    torn = roles(name, seed, 1, WIDE)
    whole, centre = x.max() - x.min(), int(middle(torn, OBJECT)[0])
    xs = np.nonzero(torn == OBJECT)[1]
    assert xs.max() - xs.min() > whole + 10
    assert (torn[:, centre - 20 : centre + 20] == 0).all(0).any()  # one sees between the halves


@pytest.mark.parametrize("seed", SEEDS)
def test_stacks_grow_and_liquid_falls(seed):
    name = "Stacking [number of] [something]"
    low, high = roles(name, seed, 0, WIDE), roles(name, seed, 1, WIDE)
    assert np.nonzero(high == OBJECT)[0].min() < np.nonzero(low == OBJECT)[0].min() - 25
    name = "Pouring [something]"
    assert np.nonzero(roles(name, seed, 0.6, WIDE) == OBJECT)[0].max() > (
        np.nonzero(roles(name, seed, 0, WIDE) == OBJECT)[0].max() + 5
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_upside_down_and_thrown_back(seed):
    name = "Turning [something] upside down"
    script, _ = actions.SCRIPTS[name]
    scene = script(np.random.default_rng(seed), "train")
    turned = [scene.layers(u)[1].matrix[:, :2] for u in (0, 1)]
    assert turned[1] == pytest.approx(-turned[0])
    name = "Throwing [something] against [something]"
    wall = middle(roles(name, seed, 0, WIDE), SECOND)[0]
    away = [
        abs(middle(roles(name, seed, u, WIDE), OBJECT)[0] - wall) for u in np.linspace(0, 1, 21)
    ]
    assert 0 < np.argmin(away) < 20 and min(away) < min(away[0], away[-1]) - 5


@pytest.mark.parametrize("seed", SEEDS)
def test_empty_is_shown_and_folding_halves(seed):
    name = "Showing that [something] is empty"
    scene, _ = stage(name, seed)
    frames = [
        np.asarray(render(scene.layers(u), affine(64, 64), (FRAME, FRAME))[0]) for u in (0, 0.65)
    ]
    assert not np.array_equal(*frames)
    name = "Folding [something]"
    assert area(roles(name, seed, 1), OBJECT) < 0.75 * area(roles(name, seed, 0), OBJECT)


def test_left_is_left_and_up_is_up():
    """The scene goes right when the camera turns left, down when it turns up."""
    rng = np.random.default_rng(0)
    left = actions.SCRIPTS["Turning the camera left while filming [something]"][0](rng, "train")
    up = actions.SCRIPTS["Turning the camera upwards while filming [something]"][0](rng, "train")
    assert left.view(1)[0] < left.view(0)[0] - 50
    assert up.view(1)[1] < up.view(0)[1] - 50  # y points down


def test_progress_goes_one_way():
    assert smooth(0.2, 0.2, 0.8) == 0 and smooth(0.9, 0.2, 0.8) == 1
    assert smooth(0.5, 0.2, 0.8) == pytest.approx(0.5)
    assert smooth(0.0, 0.0, 0.0) == 1
    assert [absence(u, 0.25, 0.75) for u in (0, 0.25, 0.75, 1)] == [1, 0, 0, 1]
    assert [absence(u, 0.0, 1.0) for u in (0, 1)] == [0, 0]


def test_a_fall_is_a_fall():
    assert [actions.bounced(s, 0.2) for s in (0, 0.3, 0.6, 1)] == pytest.approx([0, 0.25, 1, 1])
    assert actions.bounced(0.8, 0.2) == pytest.approx(0.8)


def test_a_tilted_vessel_shows_its_inside():
    vessel = Vessel(np.random.default_rng(0))
    inside = [np.asarray(vessel.pictures(tilt)[0])[..., 3].astype(bool).sum() for tilt in (0.2, 1)]
    assert inside[1] > 3 * inside[0]
