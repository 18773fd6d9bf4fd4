"""In which order backends are tried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mesh.backends.choice import View, order
from mesh.channels import HealthState

SERVING, LOADING, DOWN = HealthState.SERVING, HealthState.LOADING, HealthState.DOWN


def test_the_one_with_most_free_slots_comes_first() -> None:
    views = [View("a", SERVING, 4, 3), View("b", SERVING, 4, 1), View("c", SERVING, 8, 6)]
    assert order(views, 0.0) == ["b", "c", "a"]


def test_a_full_one_is_tried_last_but_tried() -> None:
    views = [View("a", SERVING, 4, 4), View("b", SERVING, 4, 3), View("c", SERVING, 4, 0, full_until=5.0)]
    assert order(views, 4.0) == ["b", "c", "a"]
    assert order(views, 6.0) == ["c", "b", "a"]


def test_those_that_drain_load_or_are_down_get_nothing_while_there_are_others() -> None:
    views = [View("a", DOWN, 4), View("b", LOADING, 4), View("c", SERVING, 4, 4), View("d")]
    assert order(views, 0.0) == ["d", "c"]
    assert order(views[:2], 0.0) == ["a", "b"]


def test_one_that_has_just_failed_gets_nothing_for_a_moment() -> None:
    views = [View("a", SERVING, 4, failed_until=1.0), View("b", SERVING, 4, 3)]
    assert order(views, 0.5) == ["b"]
    assert order(views, 1.0) == ["a", "b"]
    assert order([View("a", DOWN, 4, failed_until=1.0), View("b", DOWN, 4)], 0.5, prefer="a") == ["b", "a"]


def test_who_remembers_the_caller_comes_first_unless_it_is_full() -> None:
    views = [View("a", SERVING, 4, 3), View("b", SERVING, 4, 0)]
    assert order(views, 0.0, prefer="a") == ["a", "b"]
    assert order([View("a", SERVING, 4, 4), views[1]], 0.0, prefer="a") == ["b", "a"]
    assert order(views, 0.0, prefer="a", avoid=("a",)) == ["b", "a"]
    assert order(views, 0.0, prefer="gone") == ["b", "a"]


def test_of_those_that_are_alike_the_one_with_fewest_calls_comes_first_and_then_each_in_turn() -> None:
    views = [View("a", SERVING, 4, calls=2), View("b", SERVING, 4, calls=1), View("c", SERVING, 4, calls=1)]
    assert order(views, 0.0)[0] == "b"
    assert {order(views, 0.0, turn=turn)[0] for turn in range(3)} == {"b", "c"}
    alike = [View(name, SERVING, 4) for name in "abc"]
    assert [order(alike, 0.0, turn=turn)[0] for turn in range(6)] == ["a", "b", "c", "a", "b", "c"]


def test_one_that_does_not_say_how_busy_it_is_comes_after_those_with_room() -> None:
    views = [View("a"), View("b", SERVING, 4, 3), View("c", SERVING, 4, 4)]
    assert order(views, 0.0) == ["b", "a", "c"]


VIEWS = st.lists(
    st.builds(
        View,
        st.sampled_from("abcdefgh"),
        st.sampled_from([None, *HealthState]),
        st.integers(0, 4),
        st.integers(0, 6),
        st.integers(0, 6),
        st.floats(0, 2),
        st.floats(0, 2),
    ),
    unique_by=lambda view: view.target,
)


@given(VIEWS, st.sampled_from("abcz"), st.sets(st.sampled_from("abcz")), st.integers(0, 9))
def test_everyone_who_may_take_the_call_is_tried_once(
    views: list[View], prefer: str, avoid: set[str], turn: int
) -> None:
    tried = order(views, 1.0, prefer=prefer, avoid=avoid, turn=turn)
    usable = {view.target for view in views if view.is_usable(1.0)} or {view.target for view in views}
    assert len(tried) == len(set(tried))
    assert set(tried) == usable
    places = [target in avoid for target in tried]
    assert places == sorted(places)
