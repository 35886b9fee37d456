import struct

from tensorboardX.proto.event_pb2 import Event, SessionLog

from recjax.train.events import EventWriter


def crc32c(data):
  """The Castagnoli checksum, bit by bit; see RFC 3720, appendix B.4."""
  crc = 0xFFFFFFFF
  for byte in data:
    crc ^= byte
    for _ in range(8):
      crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
  return crc ^ 0xFFFFFFFF


def masked(data):
  crc = crc32c(data)
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def read_events(folder):
  """The events of all files: the framing of a TFRecord, and a protobuf."""
  events = []
  for path in sorted(folder.glob("events.out.tfevents.*")):
    content = path.read_bytes()
    while content:
      length, length_crc = struct.unpack("<QI", content[:12])
      assert length_crc == masked(content[:8])
      data = content[12 : 12 + length]
      (data_crc,) = struct.unpack("<I", content[12 + length : 16 + length])
      assert data_crc == masked(data)
      events.append(Event.FromString(data))
      content = content[16 + length :]
  return events


def test_crc32c_of_the_rfc():
  assert crc32c(bytes(32)) == 0x8A9136AA
  assert crc32c(b"123456789") == 0xE3069283


def test_scalars_can_be_read_back(tmp_path):
  writer = EventWriter(tmp_path, purge_step=1)
  writer.write(1, {"loss": 0.5})
  undefined = {"validation/auc": float("nan")}
  writer.write(2, {"loss": 0.25, **undefined, "validation/ndcg@10": 0.125})
  writer.close()
  values = [
    (event.step, value.tag, value.simple_value)
    for event in read_events(tmp_path)
    for value in event.summary.value
  ]
  assert [(step, value) for step, _, value in values] == [
    (1, 0.5),
    (2, 0.25),
    (2, 0.125),
  ]
  tags = [tag for _, tag, _ in values]
  assert tags[:2] == ["loss", "loss"]
  # TensorBoard groups by what stands before the slash.
  assert tags[2].startswith("validation/ndcg")


def test_a_resumed_run_hides_what_it_says_again(tmp_path):
  EventWriter(tmp_path, purge_step=7).close()
  starts = [
    event.step
    for event in read_events(tmp_path)
    if event.session_log.status == SessionLog.START
  ]
  assert starts == [7]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
  monkeypatch.setattr("jax.process_index", lambda: 1)
  writer = EventWriter(tmp_path, purge_step=1)
  writer.write(1, {"loss": 0.5})
  writer.close()
  assert list(tmp_path.iterdir()) == []
