"""FAISS on one thread: two that wait for each other make small tests slow."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_faiss_thread():
  import faiss

  threads = faiss.omp_get_max_threads()
  faiss.omp_set_num_threads(1)
  yield
  faiss.omp_set_num_threads(threads)
