"""Latency and throughput by a clock that the test holds; the frontier."""

import json

import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.evaluation import search_speed
from recjax.evaluation.search_speed import (
  Frontier,
  Timing,
  fastest_rate,
  measure_speeds,
)
from recjax.retrieval.exact_index import ExactIndex, ExactIndexConfig
from recjax.retrieval.scann_tuner import Measured, Tuned


class Clock:
  """Stands still but for searches."""

  def __init__(self):
    self.now, self.calls = 0.0, []

  def perf_counter(self):
    return self.now


class Clocked(ExactIndex):
  """The next search takes the next of `secs`; the last is for all others."""

  def __init__(self, name, clock, secs):
    super().__init__(ExactIndexConfig())
    self.name, self.clock, self.secs = name, clock, list(secs)
    self.build(np.eye(6, 3, dtype=np.float32), np.arange(1, 7))

  def search(self, queries, *, k, excluded=None):
    self.clock.now += self.secs.pop(0) if self.secs[1:] else self.secs[0]
    self.clock.calls.append((self.name, len(queries)))
    return super().search(queries, k=k, excluded=excluded)


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(search_speed, "time", clock)
  return clock


QUERIES = np.ones((3, 3), np.float32)


def test_latency_and_throughput(clock):
  timing = Timing(k=100, num_single=4, batch=3, min_secs=100)
  # Two calls to warm up, four single queries, and batches: one is slow.
  index = Clocked("a", clock, [50, 50, 1, 2, 3, 4, 6, 90, 6, 1])
  (speed,) = measure_speeds([index], QUERIES, timing)
  assert speed.latency_ms == pytest.approx(
    {f"p{q}": 1e3 * np.percentile([1, 2, 3, 4], q) for q in (50, 90, 99)}
  )
  # After three batches 100 s have passed; the median is 6 s.
  assert speed.queries_per_sec == pytest.approx(3 / 6)
  assert [num for _, num in clock.calls] == [1, 3, 1, 1, 1, 1, 3, 3, 3]
  assert speed.k == 6  # There are no more items.


def test_indexes_take_turns(clock):
  timing = Timing(k=2, num_single=2, batch=5, min_secs=4)
  indexes = Clocked("a", clock, [1]), Clocked("b", clock, [2])
  first, second = measure_speeds(indexes, QUERIES, timing)
  assert first.queries_per_sec == 5 and second.queries_per_sec == 5 / 2
  assert first.latency_ms["p50"] == 1e3 and second.latency_ms["p50"] == 2e3
  warm = [("a", 1), ("a", 5), ("b", 1), ("b", 5)]
  # Until the faster one has had its four seconds, too.
  turns = [("a", 1), ("b", 1)] * 2 + [("a", 5), ("b", 5)] * 4
  assert clock.calls == warm + turns


def test_one_batch_at_least(clock):
  timing = Timing(k=1, num_single=1, batch=5, min_secs=0)
  (speed,) = measure_speeds([Clocked("a", clock, [2])], QUERIES, timing)
  assert speed.queries_per_sec == pytest.approx(5 / 2)


def test_the_fastest_of_some_calls(clock):
  index = Clocked("a", clock, [0.5, 4, 2, 3])  # The first one compiles.
  assert fastest_rate(index, QUERIES, k=2, repeats=3) == pytest.approx(3 / 2)
  assert len(clock.calls) == 4


@pytest.mark.parametrize("name", ["k", "num_single", "batch"])
def test_timing_out_of_range(name):
  with pytest.raises(ConfigError, match=rf"Timing\.{name} must lie in"):
    Timing(**{name: 0})


def test_the_frontier_of_a_tuner(clock):
  slow = Measured({"reorder": 9}, recall=1.0, secs_per_query=0.5)
  fast = Measured({"reorder": 2}, recall=0.9, secs_per_query=0.25)
  poor = Measured({"reorder": 1}, recall=0.5, secs_per_query=0.4)
  index = Clocked("a", clock, [1])
  tuned = Tuned(index, fast, 0.88, (fast, slow), (slow, fast, poor), True)
  found = Frontier.of_tuned(
    tuned, k=7, wanted_recall=0.85, exact_queries_per_sec=3.0
  )
  assert found.chosen.settings == {"reorder": 2}
  assert found.chosen.queries_per_sec == 4
  assert [point.recall for point in found.frontier] == [0.9, 1.0]
  assert [point.queries_per_sec for point in found.tried] == [2, 4, 2.5]
  value = json.loads(json.dumps(found.to_dict()))
  assert value["held_out_recall"] == 0.88 and value["reached"] is True
  assert value["wanted_recall"] == 0.85 and value["k"] == 7
  assert value["exact_queries_per_sec"] == 3
  assert value["tried"][2]["settings"] == {"reorder": 1}


def test_queries_are_taken_from_all_over(monkeypatch):
  asked = []
  secs = lambda index, block, k: asked.append(block[:, 0]) or 1.0
  monkeypatch.setattr(search_speed, "_search_secs", secs)
  queries = np.arange(100, dtype=np.float32)[:, None]
  timing = Timing(k=1, num_single=5, batch=3, min_secs=1)
  index = ExactIndex(ExactIndexConfig())
  index.build(np.eye(4, 1, dtype=np.float32), np.arange(1, 5))
  measure_speeds([index], queries, timing)
  single = [float(block[0]) for block in asked[2:7]]
  assert single == [0, 24, 49, 74, 99]
  np.testing.assert_array_equal(asked[-1], [0, 49, 99])
