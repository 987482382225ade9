"""The spill: on disk what the stream does not take, sent from there in order, by this program or the next."""

import os
import re
import stat
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigProblem, Corrupt, Transient
from pipeline.core.kpl import split
from pipeline.sending.spill_file import Head, SpillFile, read_file
from tests.producer.stepped import Program, Sink, by_entity, firsts, kinds


def _down(folder: Path, **changes: object) -> Program:
    return Program(folder=folder, sink=Sink(fate=lambda: "throttled"), **changes)  # type: ignore[arg-type]


def _next(before: Program, producer_id: str = "prod2", **changes: object) -> Program:
    """Return the next run of the same program, over the same stream."""
    return Program(
        producer_id,
        before.folder,
        before.sink,
        before.receipts,
        before.clock,
        **changes,  # type: ignore[arg-type]
    )


def test_what_the_stream_does_not_take_goes_to_disk(tmp_path: Path) -> None:
    """After the budget of patience: memory is free again, the fate says where the event is, and the log says so."""
    work = _down(tmp_path)
    tickets = [work.put(f"door-{number}", b"x" * 50) for number in range(6)]
    report = work.flush()
    assert kinds(report) == dict.fromkeys(tickets, "spilled")
    [path] = tmp_path.glob("*.spill")
    assert {fate.path for _, fate in report.fates()} == {path}
    assert work.inbox.used_bytes() == 0
    assert "EventsSpilled" in work.facts.names()
    assert path.stat().st_mode & 0o077 == 0


def test_what_was_spilled_is_sent_when_the_stream_takes_it(tmp_path: Path) -> None:
    """By the same thread, in order, under the labels of the first time; then the file is gone."""
    work = _down(tmp_path)
    for number in range(8):
        work.put("door-1", b"door-1#%d" % number)
        work.put("door-2", b"door-2#%d" % number)
        work.rounds(3)
    work.sink.fate = lambda: "stored"
    assert work.wait("drain", 100)
    assert by_entity(work.sink.payloads()) == {b"door-1": list(range(8)), b"door-2": list(range(8))}
    assert list(tmp_path.glob("*.spill")) == []
    assert work.facts.names()[-1] == "SpillDrained"
    assert all(sorted(numbers) == list(range(len(numbers))) for numbers in work.acknowledged().values())
    work.close()
    assert work.receipts.all()[-1].closed


def test_later_batches_of_a_slot_go_behind(tmp_path: Path) -> None:
    """While a slot has something on disk its new batches go there too, though the stream takes again."""
    work = _down(tmp_path)
    for number in range(20):
        work.put("door-1", b"door-1#%d" % number)
        work.rounds(3)
    work.sink.fate = lambda: "stored"
    work.rounds(seconds=10)
    work.put("door-1", b"door-1#20")
    [(_, fate)] = [one for one in work.flush(1).fates() if one[0] == 20]
    assert fate.kind == "spilled"
    work.wait("drain", 100)
    assert by_entity(work.sink.payloads())[b"door-1"] == list(range(21))


def test_other_slots_need_not_wait(tmp_path: Path) -> None:
    """A slot with nothing on disk sends from memory while another one drains."""
    work = _down(tmp_path)
    for number in range(20):
        work.put("door-1", b"door-1#%d" % number)
        work.rounds(3)
    work.sink.fate = lambda: "stored"
    work.rounds()
    ticket = work.put("door-5", b"other")
    assert work.flush(3).of(ticket).kind == "acknowledged"
    assert list(tmp_path.glob("*.spill"))


def test_a_fate_nobody_heard_of_may_improve(tmp_path: Path) -> None:
    """Spilled and sent before anybody asked: acknowledged, once."""
    work = _down(tmp_path)
    ticket = work.put("door-1", b"x")
    work.rounds(5)
    work.sink.fate = lambda: "stored"
    work.wait("drain", 20)
    report = work.flush()
    assert kinds(report) == {ticket: "acknowledged"}
    assert report.of(ticket).sequence_number == "1"


def test_close_leaves_it_to_the_next_run(tmp_path: Path) -> None:
    """The next program with the folder sends it under the old id, whose last receipt says that it is the last."""
    work = _down(tmp_path)
    for number in range(5):
        work.put("door-1", b"door-1#%d" % number)
    assert work.close().spilled == 5
    assert not any(one.closed for one in work.receipts.all())
    work.sink.fate = lambda: "stored"
    later = _next(work)
    later.put("door-1", b"door-1#5")
    assert "SpillOpened" in later.facts.names()
    assert later.wait("drain", 50)
    later.close()
    assert by_entity(work.sink.payloads())[b"door-1"] == list(range(6))
    assert {one.producer: one.closed for one in work.receipts.all()} == {"prod1": True, "prod2": True}
    assert _next(later, "prod3").worker.has_spill() is False


@pytest.mark.parametrize("kill_after_rounds", range(8))
def test_a_kill_while_it_drains(tmp_path: Path, kill_after_rounds: int) -> None:
    """Nothing that was reported is lost, and the receipts of the killed producer have no hole."""
    work = _down(tmp_path)
    for number in range(12):
        work.put("door-1", b"door-1#%d" % number)
        work.put("door-2", b"door-2#%d" % number)
        work.rounds(3)
    assert work.flush().spilled == 24
    work.sink.fate = lambda: "stored"
    work.rounds(kill_after_rounds)
    work.kill()
    later = _next(work)
    assert later.wait("drain", 100)
    later.close()
    assert by_entity(firsts(work.sink.payloads())) == {b"door-1": list(range(12)), b"door-2": list(range(12))}
    assert work.sink.payloads() == firsts(
        work.sink.payloads()
    )  # what was sent was noted, so nothing went twice
    for numbers in work.acknowledged().values():
        assert sorted(numbers) == list(range(len(numbers)))


def test_what_was_acknowledged_before_the_spill_is_in_a_receipt_after_a_kill(tmp_path: Path) -> None:
    """Batches 0 to 2 went out, no receipt was written, 3 went to disk, kill: the next run's receipts have all four."""
    work = Program(folder=tmp_path)
    work.worker._receipt_not_before = float("inf")  # the table of receipts cannot be reached
    for number in range(3):
        work.put("door-1", b"door-1#%d" % number)
        work.rounds(2)
    work.sink.fate = lambda: "throttled"
    work.put("door-1", b"door-1#3")
    assert work.flush().spilled == 1
    work.kill()
    assert work.receipts.all() == []
    work.sink.fate = lambda: "stored"
    later = _next(work)
    later.wait("drain", 50)
    [numbers] = work.acknowledged().values()
    assert numbers == [0, 1, 2, 3]


def test_the_cap_is_told(tmp_path: Path) -> None:
    """A full spill leaves events in memory, and a full memory says both limits; draining makes room."""
    work = _down(tmp_path, max_spill_bytes=700, max_buffer_bytes=1_500)
    number, said = 0, ""
    while not said:
        try:
            work.put("door-1", b"door-1#%d" % number)
        except Transient as exc:
            said = str(exc)
        number += 1
        work.rounds(3)
    assert re.search(r"this event was not taken.*spill .* is full: 700 bytes \(max_spill_bytes\)", said)
    put = work.inbox.next_ticket()
    work.sink.fate = lambda: "stored"
    work.close(200)
    work.kill()
    later = _next(work)
    later.wait("drain", 50)
    assert by_entity(work.sink.payloads())[b"door-1"] == list(range(put))


def test_files_that_are_sent_make_room(tmp_path: Path) -> None:
    """The spill is a row of files; those whose batches are sent are deleted while later ones still wait."""
    work = _down(tmp_path, file_bytes=300)
    for number in range(30):
        work.put("door-1", b"door-1#%d" % number)
        work.rounds(3)
    before = sorted(tmp_path.glob("*.spill"))
    assert len(before) > 3
    work.sink.fate = lambda: "stored"
    work.rounds(25)
    work.rounds(seconds=11)  # a receipt is due
    after = sorted(tmp_path.glob("*.spill"))
    assert after
    assert after[0] > before[0]
    work.wait("drain", 100)
    assert by_entity(work.sink.payloads())[b"door-1"] == list(range(30))


def test_a_file_is_kept_until_its_acknowledgements_are_receipted(tmp_path: Path) -> None:
    """Killed with a file sent and no receipt written since: the next run still knows what was acknowledged."""
    work = Program(folder=tmp_path, file_bytes=300)
    for number in range(10):
        if number == 4:
            work.sink.fate = lambda: "throttled"
        work.put("door-1", b"door-1#%d" % number)
        work.rounds(2, seconds=0.21)
    assert len(list(tmp_path.glob("*.spill"))) > 2
    work.sink.fate = lambda: "stored"
    while not len(work.sink.stored) > 7:
        work.rounds(seconds=0.1)
    assert work.receipts.all() == []
    work.kill()
    later = _next(work)
    assert later.wait("drain", 100)
    [numbers] = work.acknowledged().values()
    assert sorted(numbers) == list(range(len(work.sink.stored)))


@pytest.mark.parametrize("torn", [1, 10, 60])
def test_a_torn_end_is_cut_off(tmp_path: Path, torn: int) -> None:
    """A crash while writing: what was reported is there, the half frame is dropped and told."""
    work = _down(tmp_path)
    work.put("door-1", b"door-1#0")
    assert work.flush().spilled == 1
    [path] = tmp_path.glob("*.spill")
    whole = path.read_bytes()
    work.put("door-1", b"door-1#1")
    work.flush()
    path.write_bytes(path.read_bytes()[: len(whole) + torn])
    work.kill()
    work.sink.fate = lambda: "stored"
    later = _next(work)
    assert [one for one in later.facts.names() if one == "SpillTorn"] == ["SpillTorn"]
    later.wait("drain", 20)
    assert work.sink.payloads() == [b"door-1#0"]


def test_damage_is_not_taken_for_a_torn_end(tmp_path: Path) -> None:
    """A frame that had been on disk and is wrong now is a loss: nobody goes on as if nothing was."""
    work = _down(tmp_path)
    for number in range(3):
        work.put("door-1", b"door-1#%d" % number)
        work.flush()
    work.kill()
    [path] = tmp_path.glob("*.spill")
    at = path.read_bytes().index(b"door-1#0")
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"X")
    with pytest.raises(Corrupt, match=rf"{path.name} is damaged at byte \d+.*Keep a copy"):
        _next(work)


def test_damage_under_a_running_producer_is_found(tmp_path: Path) -> None:
    """What is read back is checked, never sent as it is."""
    work = _down(tmp_path)
    work.put("door-1", b"door-1#0")
    work.flush()
    [path] = tmp_path.glob("*.spill")
    body = path.read_bytes()
    path.write_bytes(body.replace(b"door-1#0", b"door-1#9"))
    work.sink.fate = lambda: "stored"
    with pytest.raises(Corrupt, match="damaged"):
        work.rounds(20)
    assert work.sink.payloads() == []


def test_a_folder_has_one_producer(tmp_path: Path) -> None:
    """The second is told so, and the folder is free after a close."""
    work = Program(folder=tmp_path)
    with pytest.raises(ConfigProblem, match="used by another producer"):
        Program("prod2", tmp_path)
    work.close()
    Program("prod2", tmp_path).close()


def test_a_folder_belongs_to_a_stream(tmp_path: Path) -> None:
    """Events of another stream, or of the same one made anew, are not sent to this one."""
    work = _down(tmp_path)
    work.put("door-1", b"x")
    work.close()
    with pytest.raises(ConfigProblem, match=r"made at 1 \(4 slots\).*made at 2.*its events are in no stream"):
        Program("prod2", tmp_path, stream=("events", "2"))
    assert _next(work).worker.has_spill()


def test_a_disk_that_refuses_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When fsync fails, nobody is told "spilled": the events stay in memory, and go to disk when it works again."""
    work = _down(tmp_path)
    real, failing = os.fsync, [True]

    def fsync(descriptor: int) -> None:
        if failing[0] and stat.S_ISREG(os.fstat(descriptor).st_mode) and os.fstat(descriptor).st_size > 300:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    ticket = work.put("door-1", b"x" * 300)
    report = work.flush(20)
    assert kinds(report) == {ticket: "waiting"}
    assert "cannot be written: No space left on device" in report.problem
    failing[0] = False
    assert kinds(work.flush()) == {ticket: "spilled"}
    [path] = tmp_path.glob("*.spill")
    assert len(read_file(path).batches) == 1


def _synced(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Return how much of each file, by its inode, would be left after a power failure."""
    real, sizes = os.fsync, {}

    def fsync(descriptor: int) -> None:
        real(descriptor)
        sizes[os.fstat(descriptor).st_ino] = os.fstat(descriptor).st_size

    monkeypatch.setattr(os, "fsync", fsync)
    return sizes


def test_before_a_new_file_is_begun_the_old_one_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last acknowledgements too: after a power failure a file must not miss what a later one relies on."""
    sizes, work = _synced(monkeypatch), _down(tmp_path)
    work.worker._receipt_not_before = float("inf")  # else the old file is deleted
    for number in range(4):
        work.put("door-1", b"door-1#%d" % number)
        work.flush()
    [old] = tmp_path.glob("*.spill")
    work.sink.fate = lambda: "stored"
    while not work.sink.stored:
        work.rounds()
    assert sizes[old.stat().st_ino] < old.stat().st_size
    assert work.spill is not None
    work.spill._file_bytes = 1
    work.sink.fate = lambda: "throttled"
    work.put("door-1", b"x" * 300)
    work.flush()
    assert len(list(tmp_path.glob("*.spill"))) == 2
    assert sizes[old.stat().st_ino] == old.stat().st_size


def test_what_is_taken_over_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run may die between its write and its fsync: what the next one reads there, it syncs before it goes on."""
    work = _down(tmp_path)
    work.put("door-1", b"door-1#0")
    work.flush()
    work.kill()
    sizes = _synced(monkeypatch)
    _next(work)
    [path] = tmp_path.glob("*.spill")
    assert sizes[path.stat().st_ino] == path.stat().st_size


def test_a_disk_that_fails_at_the_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bare OSError from connect, and the folder is free again."""
    work = _down(tmp_path)
    work.put("door-1", b"door-1#0")
    work.flush()
    work.kill()

    def fsync(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        with pytest.raises(ConfigProblem, match="Input/output error; its events are not sent"):
            _next(work)
    assert _next(work).worker.has_spill()


@pytest.mark.parametrize("call", ["unlink", "fsync"])
def test_a_file_that_cannot_be_deleted_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A disk error while a sent file is deleted is told and tried again; events go on meanwhile."""
    work = _down(tmp_path)
    work.put("door-1", b"door-1#0")
    work.flush()
    work.sink.fate = lambda: "stored"

    def broken(*_args: object, **_names: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path if call == "unlink" else os, call, broken)
        work.rounds(20)
        ticket = work.put("door-1", b"door-1#1")
        report = work.flush()
        assert report.of(ticket).kind == "acknowledged"
        assert call == "fsync" or "cannot be emptied: Input/output error" in report.problem
    assert work.wait("drain", 20)
    assert list(tmp_path.glob("*.spill")) == []
    assert work.sink.payloads() == [b"door-1#0", b"door-1#1"]


def test_a_foreign_file_is_not_touched(tmp_path: Path) -> None:
    """A file that is no spill at all is an empty one with a torn end, whatever else it is; other names are left alone."""
    (tmp_path / "notes.txt").write_text("mine")
    Program(folder=tmp_path).close()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    """An older program does not guess."""
    file = SpillFile.create(tmp_path / "00000000-prod1.spill", Head("prod1", "events", "1", 4, format=2))
    file.close()
    with pytest.raises(ConfigProblem, match="has format 2, this version reads 1"):
        Program("prod2", tmp_path)


def test_the_bytes_on_disk(tmp_path: Path) -> None:
    """A spill file is stored data: its frames stay as they are."""
    work = _down(tmp_path)
    work.put("door-1", b"door-1#0")
    work.flush()
    [path] = tmp_path.glob("*.spill")
    assert path.name == "00000000-prod1.spill"
    content = read_file(path)
    assert content.head == Head("prod1", "events", "1", 4)
    [(key, place)] = content.batches
    assert key == "hr1.prod1.3.0.1"
    frame = path.read_bytes()[place.offset : place.offset + place.length]
    assert frame[:5] == b"HRSP\x02"
    assert split(frame[21:].partition(b"\0")[2]) == [b"door-1#0"]
