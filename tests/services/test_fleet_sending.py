"""Windows on their way: straight, through the spool while no broker answers, again after an error; always in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.bus.base import Message
from pipeline.bus.codec import WindowFacts, window_facts
from pipeline.bus.spool import Spool
from pipeline.bus.windows import encode_window_message
from pipeline.core.frame import Frame, FrameWindow
from pipeline.core.ledger import FrameLedger
from pipeline.errors import BusError, BusUnavailable, RecordTooLarge
from pipeline.services.sending import HELD_BACK, SendLimits, Sent, WindowSender

_PICTURE = np.zeros((8, 8, 3), np.uint8)
Said = tuple[str, int, int]


def window(camera: str, sequence: int, *, held_back: bool = False) -> Message:
    frame = Frame(sequence, sequence * 1000, sequence * 1000, _PICTURE)
    message = encode_window_message(FrameWindow(camera, 1, sequence, (frame,), 8, 8, 8.0, "wall", writer="w"))
    return replace(message, headers=(*message.headers, (HELD_BACK, b"1"))) if held_back else message


@dataclass(frozen=True)
class _Lies:
    partition: int
    offset: int


class Broker:
    """A producer whose thread acknowledges in order, while it is not ``away``."""

    def __init__(self) -> None:
        self.away = False
        self.log: list[Said] = []
        self.on_sent: Callable[[Message, object], None] = lambda _m, _w: None
        self._waiting: list[Message] = []
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._acknowledge, daemon=True)
        self._thread.start()

    def try_send_message(self, message: Message, partition: int | None = None) -> bool:
        if len(message.value or b"") > 100_000:
            raise RecordTooLarge("too large")
        self._waiting.append(message)
        return True

    @property
    def idle(self) -> bool:
        return not self._waiting

    def refuse(self, error: BusError) -> None:
        """Give everything back that is not acknowledged."""
        refused, self._waiting = self._waiting, []
        for message in refused:
            self.on_sent(message, error)

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _acknowledge(self) -> None:
        while not self._closed.wait(0.002):
            while self._waiting and not self.away:
                message = self._waiting.pop(0)
                facts = window_facts(message.value or b"")
                self.log.append((facts.camera_id, facts.epoch, facts.sequence))
                self.on_sent(message, _Lies(0, len(self.log) - 1))


class Recorder:
    def __init__(self) -> None:
        self.reachable: list[bool] = []
        self.bytes = 0

    def sent(self, camera_id: str, size_bytes: int, seconds: float) -> None:
        self.bytes += size_bytes

    def broker_reachable(self, reachable: bool) -> None:
        self.reachable.append(reachable)


class Rig:
    """A sender with its broker and its spool."""

    def __init__(self, folder: Path, *, spool_bytes: int = 50 << 20, in_flight: int = 1 << 20) -> None:
        self.broker, self.ledger, self.recorder = Broker(), FrameLedger(), Recorder()
        self.spool = Spool(folder, max_bytes=spool_bytes, segment_bytes=4096)
        self.told: list[tuple[WindowFacts, int]] = []
        self.settled: Callable[[Message], Message | None] = lambda message: message
        self.acknowledged: Callable[[WindowFacts, Sent], None] = lambda _facts, _sent: None
        self.sender = WindowSender(
            self.spool, self.ledger, self.recorder,
            settle=lambda message: self.settled(message),
            acknowledged=self._told,
            limits=SendLimits(in_flight, away_s=0.2),
        )  # fmt: skip
        self.broker.on_sent = self.sender.on_sent
        self.stop = threading.Event()

    def _told(self, facts: WindowFacts, sent: Sent) -> None:
        self.told.append((facts, sent.offset))
        self.acknowledged(facts, sent)

    def live(self, camera: str, *sequences: int, held_back: bool = False) -> None:
        for sequence in sequences:
            self.ledger.captured(camera)
            self.sender.send(window(camera, sequence, held_back=held_back), finite=False, stop=self.stop)

    def of(self, camera: str) -> list[int]:
        return [sequence for key, _, sequence in self.broker.log if key == camera]

    def until(self, condition: Callable[[], bool]) -> None:
        end_s = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end_s, (self.broker.log, self.spool.keys())
            time.sleep(0.01)

    def close(self) -> None:
        self.sender.close()
        self.broker.close()
        self.spool.close()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "spool")
    made.sender.start(made.broker)
    yield made
    made.close()


def test_windows_go_straight_while_the_broker_answers(rig: Rig) -> None:
    rig.live("gate", *range(5))
    rig.until(lambda: len(rig.told) == 5)
    assert rig.of("gate") == [0, 1, 2, 3, 4]
    assert [offset for _, offset in rig.told] == [0, 1, 2, 3, 4]
    assert rig.spool.records == 0
    line = rig.ledger.lines()["gate"]
    assert (line.captured, line.analysed, line.in_flight, line.balanced) == (5, 5, 0, True)
    assert rig.recorder.bytes > 0


def test_live_windows_wait_on_disk_while_the_broker_is_away_and_then_go_in_order(rig: Rig) -> None:
    rig.broker.away = True
    rig.live("gate", 0, 1)
    rig.until(lambda: rig.sender.away)
    rig.live("gate", *range(2, 30))
    rig.live("yard", *range(20))
    assert rig.spool.records == 50, "what was in flight is kept, too"
    assert rig.recorder.reachable == [False]
    rig.broker.away = False
    rig.until(lambda: len(rig.broker.log) == 50 and rig.spool.records == 0)
    assert rig.of("gate") == list(range(30))
    assert rig.of("yard") == list(range(20))
    # On a slow machine an answer may be late once more.
    assert rig.recorder.reachable == [False, True] * (len(rig.recorder.reachable) // 2)
    rig.live("gate", 30)
    rig.until(lambda: rig.of("gate") == list(range(31)))
    assert all(line.balanced and not line.in_flight for line in rig.ledger.lines().values())


def test_a_recording_waits_for_room_and_is_never_spooled(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "spool", in_flight=1000)
    rig.sender.start(rig.broker)
    rig.broker.away = True
    rig.ledger.captured("film", 3)
    rig.sender.send(window("film", 0), finite=True, stop=rig.stop)
    threading.Timer(0.4, lambda: setattr(rig.broker, "away", False)).start()
    began_s = time.monotonic()
    rig.sender.send(window("film", 1), finite=True, stop=rig.stop)
    assert time.monotonic() - began_s > 0.3
    rig.until(lambda: rig.broker.idle)
    rig.broker.away = True
    rig.sender.send(window("film", 2), finite=True, stop=rig.stop)
    rig.stop.set()
    with pytest.raises(BusUnavailable):
        rig.sender.send(window("film", 3), finite=True, stop=rig.stop)
    assert rig.spool.records == 0
    rig.close()


def test_a_worker_that_dies_without_a_broker_leaves_its_windows_to_the_next(tmp_path: Path) -> None:
    first = Rig(tmp_path / "spool")
    first.sender.start(first.broker)
    first.broker.away = True
    first.live("gate", 0, 1, 2)
    first.until(lambda: first.sender.away)
    first.live("gate", 3, 4)
    first.spool._queues.clear()  # it dies: nobody says ``done`` or closes
    first.close()
    second = Rig(tmp_path / "spool")
    assert second.ledger.lines()["gate"].in_flight == 5
    second.sender.start(second.broker)
    second.live("gate", 5)
    second.until(lambda: second.of("gate") == [0, 1, 2, 3, 4, 5])
    assert second.ledger.lines()["gate"].balanced
    second.close()


def test_what_the_disk_has_damaged_is_accounted_for(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "spool")
    rig.live("gate", 0, 1, 2)  # the sender is not started: all three go to the spool
    (file,) = (tmp_path / "spool").glob("k-gate/*")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0xFF  # in the second of three
    file.write_bytes(data)
    rig.sender.start(rig.broker)
    rig.until(lambda: rig.spool.records == 0 and not rig.sender.is_sending("gate"))
    assert rig.of("gate") == [0, 2]
    line = rig.ledger.lines()["gate"]
    assert (line.analysed, line.dropped, line.in_flight, line.balanced) == (2, {"failed": 1}, 0, True)
    rig.close()


def test_stopping_without_a_broker_puts_what_is_in_flight_on_disk(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "spool")
    rig.sender.start(rig.broker)
    rig.broker.away = True
    rig.live("gate", 0, 1, 2)
    rig.sender.close()
    rig.broker.refuse(BusUnavailable("closed"))
    assert rig.spool.records == 3
    assert rig.ledger.lines()["gate"].in_flight == 3
    rig.close()


def test_a_full_spool_drops_the_oldest_and_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "spool", spool_bytes=20_000)
    rig.sender.start(rig.broker)
    rig.broker.away = True
    rig.live("gate", 0)
    rig.until(lambda: rig.sender.away)
    rig.live("gate", *range(1, 200))
    rig.broker.away = False
    rig.until(lambda: rig.spool.records == 0 and not rig.sender.is_sending("gate"))
    line = rig.ledger.lines()["gate"]
    assert line.dropped["spool_full"] > 50
    assert (line.captured, line.in_flight, line.balanced) == (200, 0, True)
    assert rig.of("gate")[0] == 0
    assert rig.of("gate")[-1] == 199
    assert rig.of("gate") == sorted(set(rig.of("gate")))
    assert rig.sender.dropped_windows == line.dropped["spool_full"] == 200 - len(rig.of("gate"))
    rig.close()


def test_held_back_windows_get_their_epoch_when_they_leave(rig: Rig) -> None:
    claimed = threading.Event()

    def settle(message: Message) -> Message | None:
        if not claimed.is_set():
            raise BusUnavailable("not claimed")
        if message.key == "lost":
            return None
        headers = tuple(header for header in message.headers if header[0] != HELD_BACK)
        return replace(message, headers=headers)

    rig.settled = settle
    rig.live("gate", 0, 1, held_back=True)
    rig.live("lost", 0, 1, held_back=True)
    rig.live("yard", 0)
    rig.until(lambda: rig.of("yard") == [0])
    assert rig.of("gate") == []
    rig.live("gate", 2)  # claimed meanwhile; must not overtake
    claimed.set()
    rig.until(lambda: rig.of("gate") == [0, 1, 2])
    rig.until(lambda: rig.spool.records == 0)
    assert rig.of("lost") == []
    assert rig.ledger.lines()["lost"].dropped == {"superseded_epoch": 2}
    rig.until(lambda: not rig.sender._handed and not rig.sender._not_before)  # nothing is kept of who has sent all


def test_what_the_client_gives_back_is_sent_again_in_order(rig: Rig) -> None:
    rig.broker.away = True
    rig.live("gate", 0, 1, 2)
    rig.broker.refuse(BusUnavailable("timed out"))
    rig.broker.away = False
    rig.live("gate", 3)
    rig.until(lambda: rig.of("gate") == [0, 1, 2, 3])
    assert rig.ledger.lines()["gate"].balanced
    rig.until(lambda: not rig.sender.is_sending("gate"))


def test_a_window_that_is_too_large_is_refused_and_the_next_goes(rig: Rig) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    large = encode_window_message(FrameWindow("gate", 1, 0, (Frame(0, 0, 0, noise),), 8, 8, 8.0, "wall"), "raw")
    with pytest.raises(RecordTooLarge):
        rig.sender.send(large, finite=False, stop=rig.stop)
    rig.live("gate", 1)
    rig.until(lambda: rig.of("gate") == [1])


def test_flush_waits_for_what_is_in_flight_but_not_for_a_broker_that_is_away(rig: Rig) -> None:
    rig.broker.away = True
    rig.live("gate", 0)
    threading.Timer(0.1, lambda: setattr(rig.broker, "away", False)).start()
    assert rig.sender.flush(5, {"gate"})
    rig.broker.away = True
    rig.live("gate", 1)
    began_s = time.monotonic()
    assert not rig.sender.flush(60)
    assert time.monotonic() - began_s < 10


def test_a_marker_passes_the_spool_and_is_waited_for(rig: Rig) -> None:
    rig.sender.send_and_wait(window("gate", 0), 0, timeout_s=10)
    assert rig.of("gate") == [0]
    rig.broker.away = True
    with pytest.raises(BusUnavailable):
        rig.sender.send_and_wait(window("gate", 1), 0, timeout_s=0.2)
