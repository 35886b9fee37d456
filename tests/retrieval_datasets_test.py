"""The files of gin/datasets for retrieval, on the real data."""

import numpy as np
import pytest

from recjax import gin_config
from recjax.retrieval_experiment import RetrievalExperiment
from recjax.workbench import split_data

# Rows of training, validation and test.
PARTS = {
  "gowalla": (727_869, 82_259, 217_242),
  "ml_100k_retrieval": (78_000, 2_000, 20_000),
  "ml_100k_cold_items": (85_749, 5_030, 9_221),
  "sasrec_ml1m_retrieval": (987_531, 6_040, 6_040),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts(data_dir, name):
  gin_config.parse([f"datasets/{name}.gin"])
  experiment = gin_config.construct(RetrievalExperiment)
  data = experiment.source.read(data_dir)
  split = split_data(experiment.splitter, data, data_dir)
  parts = split.train, split.validation, split.test
  assert tuple(map(len, parts)) == PARTS[name]
  assert len(np.unique(np.concatenate(parts))) == len(data)
