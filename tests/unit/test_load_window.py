"""Ties in the duplicate window: the window's arrays agree with the order in which segments leave it."""

from pipeline.core.keys import SegmentRef
from pipeline.core.window import Window, fingerprints
from pipeline.core.window_reach import Reach, SegmentAge


def test_of_equal_ids_that_of_the_segment_that_stays_is_kept() -> None:
    """Of two segments of one arrival time the younger stays longer, and so must its ids, though the elder has them too."""
    ids = fingerprints([("acme", "e1")])
    elder, younger = (SegmentAge(SegmentRef("0001", ordinal), 1_000, 1) for ordinal in (1, 2))
    for order in ((elder, younger), (younger, elder)):
        window, reach = Window(), Reach(max_ids=1)
        for segment in order:
            window.add(segment, ids)
            reach.add(segment)
        window.leave(reach.slide(0))
        assert window.seen(ids).tolist() == [True]
