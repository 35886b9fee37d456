import jax.numpy as jnp

from recjax.models.lr import LR
from recjax.models.sasrec import SASRec
from recjax.tasks.next_item import NextItem
from recjax.tasks.objectives import FullSoftmax
from recjax.tasks.pairs import Pairs
from recjax.tasks.ranking import Ranking
from recjax.tasks.task import NO_TABLES, Task


def test_all_tasks_are_tasks():
  ranking = Ranking(LR(), Pairs.make_fields(3, 4))
  assert isinstance(ranking, Task)
  assert isinstance(Pairs(ranking), Task)
  assert isinstance(NextItem(SASRec(), FullSoftmax(), 9), Task)


def test_no_tables_ask_for_nothing():
  assert NO_TABLES.routes({}) == {} and NO_TABLES.init_slots() == {}
  assert NO_TABLES.update({}, {}, {}, {}, jnp.int32(0)) == ({}, {})
