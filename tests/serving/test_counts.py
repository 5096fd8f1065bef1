"""Counters add up, in the words of Prometheus."""

from __future__ import annotations

from ddrm_pyg.serving.counts import Counts


def test_counters_by_hand():
    counts = Counts()
    for status, seconds in ((200, 0.002), (200, 0.3), (413, 9.0)):
        counts.record("/recommend", status, seconds)
    counts.unknown += 4
    lines = counts.text(num_items=7).splitlines()
    assert 'ddrm_requests_total{path="/recommend",status="200"} 2' in lines
    assert 'ddrm_requests_total{path="/recommend",status="413"} 1' in lines
    for bound, count in (("0.001", 0), ("0.0025", 1), ("0.25", 1), ("0.5", 2)):
        assert f'ddrm_request_seconds_bucket{{le="{bound}"}} {count}' in lines
    assert 'ddrm_request_seconds_bucket{le="+Inf"} 3' in lines
    assert "ddrm_request_seconds_sum 9.302000" in lines
    assert "ddrm_request_seconds_count 3" in lines
    assert "ddrm_unknown_ids_total 4" in lines
    assert "ddrm_reloads_total 0" in lines
    assert "ddrm_items 7" in lines


def test_nothing_happened_yet():
    assert 'le="+Inf"} 0' in Counts().text(1)
