import pytest

from recjax.errors import ConfigError
from recjax.train import topologies
from recjax.train.topologies import (
  GENERATIONS,
  parse_topology,
  topology_devices,
  topology_mesh,
)


@pytest.mark.parametrize(
  ("name", "shape", "num_devices"),
  [
    ("v5e:4x4", (4, 4), 16),
    ("v6e:8x8", (8, 8), 64),
    ("v5p:4x4x4", (4, 4, 4), 64),
    ("v5e:16x16", (16, 16), 256),
    ("v5p:2x2x1", (2, 2, 1), 4),
    ("v5p:4x8x12", (4, 8, 12), 384),
  ],
)
def test_names(name, shape, num_devices):
  topology = parse_topology(name)
  assert topology.shape == shape
  assert topology.num_devices == num_devices
  assert topology.name == name
  assert topology.generation is GENERATIONS[name[:3]]


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("v5e4x4", "such as 'v5e:4x4'.*got 'v5e4x4'.*mean 'v5e:4x4'"),
    ("v5e:", "chips along its axes"),
    ("v7e:4x4", "one of 'v5e', 'v6e', 'v5p'; got 'v7e'"),
    ("v5e:4x5", "slices of v5e are 2x2, .*16x16; got 'v5e:4x5'.*mean"),
    ("v5e:4x4x4", "slices of v5e"),
    ("v5p:4x4", "slices of v5p .*multiples of 4"),
    ("v5p:0x4x4", "slices of v5p"),
    ("v5p:4x4x6", "slices of v5p"),
  ],
)
def test_what_is_no_topology(name, message):
  with pytest.raises(ConfigError, match=message):
    parse_topology(name)


def test_bandwidths_are_the_published_ones():
  # https://docs.cloud.google.com/tpu/docs/v5e and v6e: both ways 400 and 800
  # GB/s a chip; across the middle of a pod 1.6 and 3.2 TB/s.
  small, large = parse_topology("v5e:16x16"), parse_topology("v6e:16x16")
  assert 2 * small.link_bytes_per_sec == 400e9
  assert 2 * large.link_bytes_per_sec == 800e9
  assert small.bisection_bytes_per_sec == 1.6e12
  assert large.bisection_bytes_per_sec == 3.2e12
  # https://docs.cloud.google.com/tpu/docs/v5p: both ways 1200 GB/s.
  assert 2 * parse_topology("v5p:4x4x4").link_bytes_per_sec == 1200e9


def test_a_slice_without_rings_is_cut_once():
  # Four links of 50 GB/s join the halves of a grid of 4 x 4 chips.
  assert parse_topology("v5e:4x4").bisection_bytes_per_sec == 200e9
  # 4 x 4 links of 100 GB/s, twice, for the ends of the axes are joined.
  assert parse_topology("v5p:4x4x8").bisection_bytes_per_sec == 3.2e12
  assert parse_topology("v5p:2x2x4").bisection_bytes_per_sec == 4e11


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
  monkeypatch.setattr(topologies, "has_compiler", lambda: False)
  with pytest.raises(ConfigError, match=r"pip install 'recjax\[tpu\]'"):
    topology_devices(parse_topology("v5e:4x4"))


@pytest.mark.parametrize("model", [0, 3, 32])
def test_the_axis_model_divides_the_chips(model):
  with pytest.raises(ConfigError, match=f"divide the 16 chips.*got {model}"):
    topology_mesh(parse_topology("v5e:4x4"), model)
