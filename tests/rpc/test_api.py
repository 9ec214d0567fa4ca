"""The local API, server and clients together: what it answers, and what it survives."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from orrange_p2p.client import api, plain
from orrange_p2p.core import jsonrpc
from orrange_p2p.core.errors import (
    CallerError,
    ConfigError,
    DeadlineError,
    MalformedError,
    OrrangeError,
    PortInUseError,
    StoreError,
    UnreachableError,
    WorldError,
)
from orrange_p2p.core.jsonrpc import Event, Reply, Request
from orrange_p2p.rpc.server import Limits, RpcServer, listening

Params = Mapping[str, Any]


async def echo(params: Params) -> Any:
    return dict(params)


async def wait(params: Params) -> Any:
    await trio.sleep_forever()


async def refuse(params: Params) -> Any:
    raise ConfigError("no market '0x00' here")


async def fail(params: Params) -> Any:
    raise StoreError("no space left")


async def break_down(params: Params) -> Any:
    raise ZeroDivisionError("a bug")


async def no_json(params: Params) -> Any:
    return {1, 2}


async def large(params: Params) -> Any:
    return "x" * 20_000


async def count(params: Params) -> AsyncIterator[Any]:
    for number in range(params["to"]):
        yield number


async def flood(params: Params) -> AsyncIterator[Any]:
    while True:
        yield "x" * 1000


async def tick(params: Params) -> AsyncIterator[Any]:
    try:
        yield "started"
        await trio.sleep_forever()
    finally:
        CLOSED.append("tick")


async def stumble(params: Params) -> AsyncIterator[Any]:
    yield 1
    raise StoreError("disk gone")


CLOSED: list[str] = []
METHODS = {
    "echo": echo,
    "wait": wait,
    "refuse": refuse,
    "fail": fail,
    "break_down": break_down,
    "no_json": no_json,
    "large": large,
}
STREAMS = {"count": count, "flood": flood, "tick": tick, "stumble": stumble}
LIMITS = Limits(
    clients=8, request_bytes=4096, reply_bytes=10_000, write_timeout_s=0.2, method_timeout_s=0.5
)


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[RpcServer]:
    server = RpcServer(METHODS, STREAMS, LIMITS)
    async with listening(path, server):
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "rpc.sock"


def mode_of(path: Path) -> int | None:
    """None if there is nothing."""
    return stat.S_IMODE(path.stat().st_mode) if path.exists() else None


async def eventually(holds: Callable[[], bool]) -> None:
    with trio.fail_after(3):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def send_raw(path: Path, *lines: bytes) -> list[Any]:
    """Everything that comes back until the server closes."""
    received = b""
    async with await trio.open_unix_socket(str(path)) as stream:
        await stream.send_all(b"".join(lines))
        await stream.send_eof()
        with trio.fail_after(2):
            async for chunk in stream:
                received += chunk
    return [json.loads(line) for line in received.splitlines()]


async def test_a_call_is_answered(path: Path) -> None:
    async with serving(path), api.connect(path) as client:
        assert await client.call("echo", {"price": 7}) == {"price": 7}


async def test_a_call_without_trio(path: Path) -> None:
    async with serving(path):
        answer = await trio.to_thread.run_sync(lambda: plain.call(path, "echo", {"a": [1]}))
        assert answer == {"a": [1]}
        with pytest.raises(ConfigError):
            await trio.to_thread.run_sync(lambda: plain.call(path, "refuse"))
        with pytest.raises(DeadlineError):
            await trio.to_thread.run_sync(lambda: plain.call(path, "wait", timeout_s=0.1))


async def test_a_stream_ends_by_itself(path: Path) -> None:
    async with serving(path), api.connect(path) as client:
        assert [item async for item in client.stream("count", {"to": 3})] == [0, 1, 2]


async def test_a_stream_ends_when_the_client_leaves(path: Path) -> None:
    CLOSED.clear()
    async with serving(path), api.connect(path) as client:
        async with aclosing(client.stream("tick")) as events:
            assert await anext(events) == "started"
        await eventually(lambda: bool(CLOSED))
        assert await client.call("echo") == {}


async def test_errors_come_back_as_they_were_raised(path: Path) -> None:
    async with serving(path) as server, api.connect(path) as client:
        for method, kind in (
            ("refuse", ConfigError),
            ("fail", StoreError),
            ("nonsense", CallerError),
            ("break_down", WorldError),
            ("no_json", WorldError),
            ("large", WorldError),
        ):
            with pytest.raises(kind):
                await client.call(method)
        with pytest.raises(StoreError, match="disk gone"):
            _ = [item async for item in client.stream("stumble")]
        assert await client.call("echo") == {}
        assert server.counters["rpc_internal_errors"] == 2


async def test_concurrent_calls_do_not_wait_for_each_other(path: Path) -> None:
    async with serving(path), api.connect(path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.call, "wait")
        await trio.testing.wait_all_tasks_blocked()
        assert await client.call("echo", {"n": 1}) == {"n": 1}
        nursery.cancel_scope.cancel()


async def test_a_cancelled_call_does_not_disturb_the_next(path: Path) -> None:
    async with serving(path), api.connect(path) as client:
        for number in range(6):
            with pytest.raises(DeadlineError):
                await client.call("wait", timeout_s=0.01)
            assert await client.call("echo", {"n": number}) == {"n": number}


async def test_calls_that_hang_do_not_hold_their_places_for_ever(path: Path) -> None:
    async with serving(path), api.connect(path) as client:
        with pytest.raises(DeadlineError, match="may have happened"):
            await client.call("wait")
        for _ in range(8):
            with pytest.raises(DeadlineError):
                await client.call("wait", timeout_s=0.01)
        with pytest.raises(WorldError, match="more than 8 clients"):
            await client.call("echo")
        await trio.sleep(0.5)
        assert await client.call("echo") == {}


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"nonsense", jsonrpc.PARSE_ERROR),
        (b'{"jsonrpc":"2.0","id":1,"method":"echo","params":{"x":NaN}}', jsonrpc.PARSE_ERROR),
        (b"[" * 4000, jsonrpc.PARSE_ERROR),
        (b'{"id":' + b"9" * 4000, jsonrpc.PARSE_ERROR),
        (b"\xff\xfe\x00", jsonrpc.PARSE_ERROR),
        (b"[]", jsonrpc.INVALID_REQUEST),
        (b"{}", jsonrpc.INVALID_REQUEST),
        (b'{"id":1,"method":"echo"}', jsonrpc.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","method":"echo"}', jsonrpc.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":true,"method":"echo"}', jsonrpc.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', jsonrpc.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"echo","more":1}', jsonrpc.INVALID_REQUEST),
        (b'{"jsonrpc":"2.0","id":1,"method":"echo","params":[1]}', jsonrpc.INVALID_PARAMS),
        (b'{"jsonrpc":"2.0","id":1,"method":"no\\ud800ne"}', jsonrpc.METHOD_NOT_FOUND),
    ],
)
async def test_a_bad_line_is_answered_and_the_connection_goes_on(
    path: Path, line: bytes, code: int
) -> None:
    good = jsonrpc.encode_request(Request("next", "echo", {}))
    async with serving(path):
        bad, after = await send_raw(path, line + b"\n", good)
        assert bad["error"]["code"] == code
        assert bad["error"]["message"]
        assert after == {"jsonrpc": "2.0", "id": "next", "result": {}}


async def test_a_line_without_end_is_cut_off(path: Path) -> None:
    async with serving(path), api.connect(path) as client:
        (answer,) = await send_raw(path, b" " * 5000)
        assert "longer than 4096" in answer["error"]["message"]
        (answer,) = await send_raw(path, b" " * 5000 + b"\n" + b"{}\n")
        assert answer["error"]["code"] == jsonrpc.INVALID_REQUEST
        assert await client.call("echo") == {}


async def test_half_a_request_and_a_sudden_end(path: Path) -> None:
    async with serving(path), api.connect(path) as client:
        assert await send_raw(path, b'{"jsonrpc":"2.0","id":1') == []
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(jsonrpc.encode_request(Request(1, "flood", {})))
        await trio.aclose_forcefully(stream)
        assert await client.call("echo") == {}


async def test_a_client_that_does_not_read_is_cut_off(path: Path) -> None:
    async with serving(path) as server, api.connect(path) as client:
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(jsonrpc.encode_request(Request(1, "flood", {})))
        await eventually(lambda: server.counters["rpc_slow_readers"] == 1)
        assert await client.call("echo") == {}
        await stream.aclose()


async def test_clients_are_counted(path: Path) -> None:
    async with serving(path) as server, api.connect(path) as client:
        others = [await trio.open_unix_socket(str(path)) for _ in range(20)]
        assert await client.call("echo") == {}
        await eventually(lambda: server.counters["rpc_refused"] == 13)
        with pytest.raises(WorldError, match="more than 8 clients"):
            await trio.to_thread.run_sync(lambda: plain.call(path, "echo"))
        for stream in others:
            await stream.aclose()
        await trio.testing.wait_all_tasks_blocked(0.01)
        for _ in range(10):
            assert await trio.to_thread.run_sync(lambda: plain.call(path, "echo")) == {}


async def test_the_socket_is_the_owners_alone_and_goes_with_the_server(path: Path) -> None:
    async with serving(path):
        assert mode_of(path) == 0o600
    assert mode_of(path) is None
    with pytest.raises(UnreachableError):
        async with api.connect(path):
            pass
    with pytest.raises(UnreachableError):
        plain.call(path, "echo")


async def test_a_living_socket_is_kept_and_a_dead_one_replaced(path: Path) -> None:
    async with serving(path):
        with pytest.raises(PortInUseError, match="another node"):
            async with serving(path):
                pass
        async with api.connect(path) as client:
            assert await client.call("echo") == {}
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert mode_of(path) is not None
    async with serving(path), api.connect(path) as client:
        assert await client.call("echo") == {}


async def test_a_file_in_the_way_is_left_alone(path: Path) -> None:
    await trio.Path(path).write_text("precious")
    with pytest.raises(ConfigError, match="no socket"):
        async with serving(path):
            pass
    assert await trio.Path(path).read_text() == "precious"


async def test_a_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="cannot listen"):
        async with serving(tmp_path / "none" / "rpc.sock"):
            pass


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")
async def test_a_deep_directory_works_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    path = deep / "rpc.sock"
    async with serving(path), api.connect(path) as client:
        assert await client.call("echo") == {}
        assert await trio.to_thread.run_sync(lambda: plain.call(path, "echo")) == {}
    assert mode_of(path) is None
    with pytest.raises(OrrangeError, match="too long"):
        plain.call(deep / ("s" * 200), "echo")


# --- the messages themselves ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.integers() | st.text(), st.text(), st.dictionaries(st.text(), JSON))
def test_a_request_comes_back_as_it_was(id_: int | str, method: str, params: Params) -> None:
    line = jsonrpc.encode_request(Request(id_, method, params))
    assert line.count(b"\n") == 1
    assert jsonrpc.decode_request(line) == Request(id_, method, params)


@given(JSON)
def test_an_answer_comes_back_as_it_was(value: Any) -> None:
    assert jsonrpc.decode_answer(jsonrpc.encode_result(1, value)) == Reply(1, value, None)
    assert jsonrpc.decode_answer(jsonrpc.encode_event(1, value)) == Event(1, value)


@given(st.binary() | JSON.map(json.dumps).map(str.encode))
def test_no_line_raises_anything_but_malformed(line: bytes) -> None:
    for decode in (jsonrpc.decode_request, jsonrpc.decode_answer):
        with suppress(MalformedError):
            decode(line)
