import pytest

from recjax.embeddings.costs import Cost
from recjax.embeddings.plans import ArrayPlan, Plan, bytes_text
from recjax.embeddings.strategies import Partition
from recjax.errors import ConfigError

MIB = 2**20
PARTITION = Partition(
  num_rows=4096,
  dim=64,
  rows=("model",),
  columns=(),
  replicas=("data",),
  row_shards=2,
  column_shards=1,
  num_replicas=4,
  by_table=False,
)


def make_plan(**fields):
  arrays = tuple(
    ArrayPlan(
      name,
      "row_wise_replicated",
      PARTITION,
      100,
      Cost(
        table_bytes=3 * MIB,
        slot_bytes=2 * MIB,
        exchanged_bytes=1536,
        buffer_bytes=MIB,
        collectives=4,
        capacity=capacity,
        imbalance=1.25,
      ),
      f"{name} is so.",
    )
    for name, capacity in (("users", 24), ("items", 0))
  )
  return Plan(arrays, {"data": 4, "model": 2}, 2048, **fields)


def test_sums_and_what_a_sharded_collection_takes():
  plan = make_plan(other_bytes=MIB)
  assert plan.num_devices == 8
  assert plan.device_bytes == 13 * MIB
  assert plan.exchanged_bytes == 3072
  assert plan.strategies == dict.fromkeys(
    ("users", "items"), "row_wise_replicated"
  )
  assert plan.capacities == {"users": 24}
  assert plan.shortfall_bytes == 0
  plan.check()


def test_the_table_names_every_number_once():
  lines = make_plan(memory_bytes=16 * MIB).describe().splitlines()
  assert lines[0] == "8 devices (data=4 x model=2), batch of 2,048 examples"
  assert (
    lines[2].split()
    == (
      "users row_wise_replicated 4,096 64 2 x 1 (4 copies)"
      " 6.0 MiB 1.5 KiB 24 1.25"
    ).split()
  )
  assert lines[3].split()[-2:] == ["-", "1.25"]
  assert lines[4].split() == ["all", "12.0", "MiB", "3.0", "KiB"]
  assert "users: users is so." in lines
  assert lines[-1] == "A device needs 12.0 MiB of its 16.0 MiB: the plan fits."
  # Numbers stand under one another.
  assert len({line.rindex("1.25") for line in lines[2:4]}) == 1


def test_a_plan_that_does_not_fit_says_by_how_much_and_what_would():
  plan = make_plan(
    memory_bytes=10 * MIB, other_bytes=MIB, remedies=("buy more", "use less")
  )
  assert plan.shortfall_bytes == 3 * MIB
  with pytest.raises(ConfigError) as error:
    plan.check()
  assert str(error.value) == (
    "A device needs 13.0 MiB (1.0 MiB of them no tables) and has 10.0 MiB: the"
    " plan does not fit by 3.0 MiB.\n- buy more\n- use less"
  )
  assert str(error.value) in plan.describe()


@pytest.mark.parametrize(
  ("count", "text"),
  [
    (0, "0 B"),
    (1023, "1,023 B"),
    (1024, "1.0 KiB"),
    (1536 * 1024, "1.5 MiB"),
    (2**30 - 1, "1.0 GiB"),
    (5000 * 2**40, "5,000.0 TiB"),
  ],
)
def test_bytes_for_people(count, text):
  assert bytes_text(count) == text
