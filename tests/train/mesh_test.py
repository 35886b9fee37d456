import types

import jax
import numpy as np
import pytest

from recjax.errors import ConfigError
from recjax.train import mesh as mesh_module
from recjax.train.mesh import MeshConfig, make_mesh


@pytest.mark.parametrize(
  "data,model,shape",
  [
    (1, 1, (1, 1)),
    (2, 3, (2, 3)),
    (8, 1, (8, 1)),
    (0, 1, (8, 1)),
    (0, 2, (4, 2)),
    (0, 3, (2, 3)),
  ],
)
def test_shape_and_axes(data, model, shape):
  mesh = make_mesh(MeshConfig(data=data, model=model))
  assert mesh.axis_names == ("data", "model")
  assert mesh.devices.shape == shape
  expected = jax.devices()[: shape[0] * shape[1]]
  assert list(mesh.devices.flat) == expected


@pytest.mark.parametrize(
  "data,model,needed", [(9, 1, 9), (4, 4, 16), (0, 16, 16)]
)
def test_too_few_devices(data, model, needed):
  with pytest.raises(
    ConfigError, match=f"model={model} needs {needed} devices; there are 8"
  ):
    make_mesh(MeshConfig(data=data, model=model))


@pytest.mark.parametrize(
  "settings,message",
  [
    ({"data": -1}, "MeshConfig.data must lie in"),
    ({"model": 0}, "MeshConfig.model must lie in"),
  ],
)
def test_bad_settings_name_the_rule(settings, message):
  with pytest.raises(ConfigError, match=message):
    MeshConfig(**settings)


@pytest.mark.parametrize(
  "shape,is_right",
  [((4, 1), True), ((2, 2), True), ((1, 4), False), ((2, 1), False)],
)
def test_a_process_has_its_own_rows_of_the_mesh(monkeypatch, shape, is_right):
  # Two processes of two devices each; the first devices make the mesh.
  monkeypatch.setattr(jax, "process_count", lambda: 2)
  devices = [types.SimpleNamespace(process_index=i // 2) for i in range(4)]
  grid = np.array(devices[: shape[0] * shape[1]]).reshape(shape)
  if is_right:
    mesh_module._check_processes(grid)
  else:
    with pytest.raises(ConfigError, match="must be a multiple of 2, and"):
      mesh_module._check_processes(grid)
