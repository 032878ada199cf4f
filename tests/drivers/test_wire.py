"""Frames and messages: what goes in comes out, and nothing else ever does."""

import contextlib
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rramhil_drivers import requests, wire
from rramhil_drivers.wire import Frame, Garbled, Type

frames = st.builds(
    Frame,
    type=st.integers(0, 255),
    seq=st.integers(0, 65535),
    payload=st.binary(max_size=300),
    version=st.integers(0, 255),
)
cell_lists = st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=64, unique=True)
few = settings(deadline=None, max_examples=80)


@few
@given(st.lists(frames, max_size=5), st.lists(st.integers(1, 40), min_size=1))
def test_frames_survive_any_split_of_the_stream(sent, pieces):
    stream = b"".join(wire.encode(frame) for frame in sent)
    receiver, got, at, turn = wire.Receiver(), [], 0, 0
    while at < len(stream):
        size = pieces[turn % len(pieces)]
        got += receiver.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert got == sent
    assert receiver.dropped == 0


@few
@given(frames)
def test_only_the_last_byte_of_a_frame_is_zero(frame):
    encoded = wire.encode(frame)
    assert encoded.index(0) == len(encoded) - 1


@settings(deadline=None, max_examples=300)
@given(frames, st.data())
def test_a_garbled_frame_is_dropped_and_the_next_one_arrives(frame, data):
    bad = bytearray(wire.encode(frame))
    how = data.draw(st.sampled_from(["flip", "insert", "remove", "cut"]))
    at = data.draw(st.integers(0, len(bad) - 2))
    if how == "flip":
        bad[at] ^= data.draw(st.integers(1, 255))
    elif how == "insert":
        bad.insert(at + 1, data.draw(st.integers(1, 255)))
    elif how == "remove":
        del bad[at]
    else:
        del bad[at:-1]
    after = Frame(wire.Type.READ, 7, b"after")
    receiver = wire.Receiver()
    assert receiver.feed(bytes(bad) + wire.encode(after)) == [after]


def test_garbage_without_a_zero_byte_is_bounded_and_passes():
    receiver = wire.Receiver()
    for _ in range(50):
        assert receiver.feed(b"\x55" * 700) == []
        assert len(receiver._pending) <= 2 * wire.MAX_FRAME
    frame = Frame(1, 2, b"x")
    assert receiver.feed(b"\0" + wire.encode(frame)) == [frame]
    assert receiver.dropped == 1


def test_the_longest_frame_passes_and_a_longer_one_is_refused():
    longest = Frame(1, 2, b"\xff" * (wire.MAX_FRAME - 8))
    assert wire.Receiver().feed(wire.encode(longest)) == [longest]
    with pytest.raises(ValueError, match="longer than 1024"):
        wire.encode(Frame(1, 2, b"\xff" * (wire.MAX_FRAME - 7)))


@few
@given(cell_lists)
def test_cells_come_back(cells):
    array = np.array(cells, dtype=np.int64)
    assert wire.unpack_cells(wire.pack_cells(array)).tolist() == cells


@few
@given(st.integers(0, 10**6), st.integers(1, 300), st.integers(3, 64))
def test_a_run_of_cells_is_ten_bytes(first, stride, count):
    cells = first + stride * np.arange(count)
    packed = wire.pack_cells(cells)
    assert len(packed) == 10
    assert wire.unpack_cells(packed).tolist() == cells.tolist()


@pytest.mark.parametrize("count", [0, 65])
def test_no_frame_holds_none_or_more_than_64_cells(count):
    with pytest.raises(Garbled, match=f"{count} cells"):
        wire.pack_cells(np.arange(count))
    with pytest.raises(Garbled):
        wire.unpack_cells(bytes((count, 0)) + bytes(4 * count))


@few
@given(cell_lists, st.booleans(), st.booleans(), st.integers(0, 2**32 - 1), st.data())
def test_an_apply_comes_back(cells, gate, limit, width_ns, data):
    codes = st.lists(st.integers(-(2**15), 2**15 - 1), min_size=len(cells), max_size=len(cells))
    sent = wire.Apply(
        9, 2, width_ns, np.array(cells), np.array(data.draw(codes)),
        np.array(data.draw(codes)) if gate else None,
        np.array(data.draw(codes)) if limit else None,
    )  # fmt: skip
    got = wire.Apply.unpack(sent.pack())
    assert (got.session, got.kind, got.width_ns) == (9, 2, width_ns)
    for name in ("cells", "volts", "gate", "limit"):
        one, other = getattr(sent, name), getattr(got, name)
        assert (one is None) == (other is None)
        assert one is None or one.tolist() == other.tolist()


def test_a_full_apply_fits_a_frame_in_eight_bytes_a_cell():
    cells = np.arange(64)
    apply = wire.Apply(1, 0, 1000, cells, cells, cells)
    assert len(apply.pack()) == 11 + 64 * 8
    everything = wire.Apply(1, 0, 1000, cells, cells, cells, cells)
    wire.encode(Frame(wire.Type.APPLY, 0, everything.pack()))


def test_a_code_that_does_not_fit_is_refused_and_never_wraps_round():
    one = np.array([1])
    with pytest.raises(ValueError, match="40000 to 40000 does not fit"):
        wire.Apply(1, 0, 100, one, np.array([40000])).pack()
    with pytest.raises(ValueError, match="does not fit"):
        wire.pack_read_reply(np.array([70000]))
    with pytest.raises(ValueError, match="does not fit"):
        wire.pack_cells(np.array([2**32]))


@few
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), max_size=6),
)
def test_a_hello_reply_comes_back(session, fields):
    sent = wire.HelloReply(session, 3, 8, 64, tuple(fields), flags=1)
    assert wire.HelloReply.unpack(sent.pack()) == sent


@few
@given(st.binary(max_size=120))
def test_no_payload_raises_anything_but_garbled(payload):
    for unpack in (
        wire.Hello.unpack,
        wire.HelloReply.unpack,
        wire.Apply.unpack,
        wire.ApplyReply.unpack,
        wire.Nak.unpack,
        wire.unpack_cells,
        wire.unpack_count,
        requests.Program.unpack,
        requests.ProgramReply.unpack,
        requests.Knob.unpack,
        requests.Arm.unpack,
        requests.State.unpack,
        requests.Call.unpack,
        requests.Time.unpack,
        requests.unpack_time_reply,
        lambda data: requests.Product.unpack(data, 5, 3),
        lambda data: requests.unpack_product_reply(data, 2, 5, 11),
        lambda data: wire.unpack_read_reply(data, 3),
        lambda data: wire.unpack_count_reply(data, 3),
    ):
        with contextlib.suppress(Garbled):
            unpack(payload)


@few
@given(st.integers(1, 24), st.integers(1, 70), st.integers(1, 4), st.data())
def test_packed_bits_come_back_and_leave_no_gap(bits, count, vectors, data):
    codes = st.lists(st.integers(0, 2**bits - 1), min_size=count, max_size=count)
    sent = np.array([data.draw(codes) for _ in range(vectors)])
    packed = wire.pack_bits(sent, bits)
    assert len(packed) == vectors * -(-count * bits // 8)
    whole = int.from_bytes(packed[: len(packed) // vectors], "little")
    assert [whole >> i * bits & (2**bits - 1) for i in range(count)] == sent[0].tolist()
    assert wire.unpack_bits(packed, count, bits).tolist() == sent.tolist()
    with pytest.raises(ValueError, match="does not fit"):
        wire.pack_bits(sent + 2**bits, bits)


@few
@given(cell_lists, st.booleans(), st.data())
def test_a_program_and_its_answer_come_back(cells, failed, data):
    def column(highest):
        size = len(cells)
        return np.array(data.draw(st.lists(st.integers(0, highest), min_size=size, max_size=size)))

    sent = requests.Program(9, np.array(cells), column(65535), column(65535))
    got = requests.Program.unpack(sent.pack())
    assert got.session == 9
    for name in ("cells", "low", "high"):
        assert getattr(got, name).tolist() == getattr(sent, name).tolist()
    columns = [column(3), *(column(65535) for _ in range(4))]
    reply = requests.ProgramReply(*columns, failed=failed, message="tripped µ" if failed else "")
    back = requests.ProgramReply.unpack(reply.pack())
    assert (back.failed, back.message) == (reply.failed, reply.message)
    for name in ("verdicts", "codes", "sets", "resets", "reads"):
        assert getattr(back, name).tolist() == getattr(reply, name).tolist()
    wire.encode(Frame(Type.PROGRAM, 0, sent.pack()))
    wire.encode(Frame(Type.PROGRAM | wire.REPLY, 0, reply.pack()))


words = st.integers(0, 2**16 - 1)
longs = st.integers(0, 2**32 - 1)
bytes_ = st.integers(0, 255)


@few
@given(
    st.one_of(
        st.builds(
            requests.State, st.integers(0, 2), bytes_, longs, words, words, longs, words,
            bytes_, words, bytes_,
        ),
        st.builds(requests.Arm, longs, words),
        st.builds(requests.Call, bytes_, longs),
        st.builds(requests.Time, longs, st.integers(0, 2**64 - 1)),
    )
)  # fmt: skip
def test_short_messages_come_back(message):
    assert type(message).unpack(message.pack()) == message


@few
@given(longs, bytes_, st.lists(st.integers(-(2**15), 2**15 - 1), min_size=1, max_size=505))
def test_a_knob_comes_back(session, knob, values):
    got = requests.Knob.unpack(requests.Knob(session, knob, np.array(values)).pack())
    assert (got.session, got.knob, got.values.tolist()) == (session, knob, values)
    assert len(values) <= requests.MAX_KNOB_VALUES


@few
@given(st.integers(1, 1200), st.integers(1, 16), st.integers(1, 600), st.integers(1, 30))
def test_as_many_vectors_go_into_a_frame_as_fit(rows, bits, cols, sum_bits):
    def fits(count: int) -> bool:
        asked = requests.Product(0, np.zeros((count, rows), np.int64)).pack(bits)
        sums = wire.pack_bits(np.zeros((count, cols), np.int64), sum_bits)
        return max(len(asked), len(sums)) <= wire.MAX_PAYLOAD

    fit = requests.vectors_per_frame(rows, bits, cols, sum_bits)
    assert fit == 0 or fits(fit)
    assert fit == 255 or not fits(fit + 1)


def test_replies_come_back():
    partial = wire.ApplyReply(3, (0, 1, 2), "the DAC answered µ")
    for reply in (wire.ApplyReply(64), partial):
        assert wire.ApplyReply.unpack(reply.pack()) == reply
    nak = wire.Nak(wire.Why.REFUSED, "too high")
    assert wire.Nak.unpack(nak.pack()) == nak
    assert wire.unpack_read_reply(wire.pack_read_reply(np.array([0, 9, 0xFFFF])), 3)[1] == 9
    assert wire.unpack_count_reply(wire.pack_count_reply(np.array([2**31, 5])), 2)[0] == 2**31
    kind, cells = wire.unpack_count(wire.pack_count(2, np.array([7, 3])))
    assert (kind, cells.tolist()) == (2, [7, 3])


DOCUMENT = (Path(__file__).parents[2] / "docs" / "board-protocol.md").read_text(encoding="utf-8")


def test_the_examples_of_the_document_are_what_goes_over_the_line():
    two, session = np.array([259, 7]), 0x12345678
    apply = wire.Apply(session, 0, 100, two, np.array([200, 180]), np.array([320, 300]))
    readings = np.array([0, 413, wire.READ_ABOVE, wire.READ_NOTHING])
    one = np.array([[3, 0, 2, 1]])
    state = requests.State(0, wire.Off.ABORT, 3, 0, 0, session, 9, Type.APPLY, 3, 1)
    armed = requests.State(1, wire.Off.HELLO, 0, 200, 0, session, 7, 0, 0, 0)
    task = requests.Program(session, two, np.array([400, 0]), np.array([430, 50]))
    done = requests.ProgramReply(
        np.array([0, 3]), np.array([413, 77]), np.array([4, 0]), np.array([1, 20]),
        np.array([6, 21]),
    )  # fmt: skip
    said = {
        "HELLO": Frame(Type.HELLO, 1, wire.Hello(session).pack()),
        "READ": Frame(Type.READ, 2, wire.pack_cells(np.arange(0, 1024, 256))),
        "READ reply": Frame(Type.READ | wire.REPLY, 2, wire.pack_read_reply(readings)),
        "APPLY": Frame(Type.APPLY, 3, apply.pack()),
        "APPLY reply": Frame(Type.APPLY | wire.REPLY, 3, wire.ApplyReply(2).pack()),
        "COUNT": Frame(Type.COUNT, 4, wire.pack_count(0, two)),
        "COUNT reply": Frame(Type.COUNT | wire.REPLY, 4, wire.pack_count_reply(np.array([1, 1]))),
        "NAK": Frame(Type.NAK, 5, wire.Nak(wire.Why.REFUSED, "too high").pack()),
        "PRODUCT": Frame(Type.PRODUCT, 6, requests.Product(1, one).pack(2)),
        "PRODUCT reply": Frame(Type.PRODUCT | wire.REPLY, 6, wire.pack_bits(one * 5, 5)),
        "ARM": Frame(Type.ARM, 7, requests.Arm(session, 200).pack()),
        "ARM reply": Frame(Type.ARM | wire.REPLY, 7, armed.pack()),
        "PROGRAM": Frame(Type.PROGRAM, 8, task.pack()),
        "PROGRAM reply": Frame(Type.PROGRAM | wire.REPLY, 8, done.pack()),
        "KNOB": Frame(Type.KNOB, 9, requests.Knob(session, 0, np.array([-5])).pack()),
        "KNOB reply": Frame(Type.KNOB | wire.REPLY, 9),
        "STATUS": Frame(Type.STATUS, 1),
        "ABORT": Frame(Type.ABORT, 2),
        "ABORT reply": Frame(Type.ABORT | wire.REPLY, 2, state.pack()),
    }
    shown = dict(re.findall(r"^([A-Za-z ]+?) {2,}((?:[0-9a-f]{2} ?)+)$", DOCUMENT, re.MULTILINE))
    assert {name: wire.encode(frame).hex(" ") for name, frame in said.items()} == shown


@pytest.mark.parametrize("why", wire.Why)
def test_the_document_names_every_reason(why):
    assert f"| {int(why)} | {why.name} |" in DOCUMENT


@pytest.mark.parametrize("kind", wire.Type)
def test_the_document_names_every_type(kind):
    assert f"| {int(kind):#04x} | {kind.name}" in DOCUMENT
