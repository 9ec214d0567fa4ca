"""The HTTP API of a node that runs: who may ask, what is answered, and what harms it."""

from __future__ import annotations

import json
import secrets
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from api_node import ApiNode, api_node, until
from coincurve import PrivateKey
from trio_websocket import open_websocket_url

from orrange_p2p.crypto import secp256k1
from orrange_p2p.crypto.hashes import keccak256

WALLET = PrivateKey(b"\x07" * 32)
ACCOUNT = "0x" + secp256k1.address_of(WALLET.public_key).hex()
BUY = {"side": "buy", "price": "100", "quantity": "5"}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiNode]:
    with api_node(tmp_path_factory.mktemp("api") / "node", f'wallets = ["{ACCOUNT}"]\n') as one:
        yield one


@pytest.fixture
def http(node: ApiNode) -> Iterator[httpx.Client]:
    with node.http() as client:
        yield client


# --- who may ask ---


def test_the_owners_token_is_the_owners_alone(node: ApiNode) -> None:
    assert stat.S_IMODE((node.home / "api.cookie").stat().st_mode) == 0o600
    for token in ("", "00" * 32, "é"):
        with httpx.Client(base_url=node.url) as client:
            headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
            answer = client.get("/v1/book", headers=headers)
            assert answer.status_code == 401
            assert answer.json()["code"] == "not_logged_in"
            assert "www-authenticate" in answer.headers


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "a@b"])
def test_a_name_that_was_pointed_here_is_refused(http: httpx.Client, host: str) -> None:
    answer = http.get("/v1/book", headers={"Host": host})
    assert answer.status_code in (400, 421)
    if answer.status_code == 421:
        assert answer.json()["code"] == "foreign_host"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1"])
def test_a_page_from_elsewhere_is_refused(http: httpx.Client, origin: str) -> None:
    answer = http.post("/v1/orders", json=BUY, headers={"Origin": origin})
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_origin")
    assert "access-control-allow-origin" not in answer.headers
    assert http.get("/v1/book", headers={"Origin": str(http.base_url).rstrip("/")}).is_success


def test_a_code_opens_one_session_once(node: ApiNode) -> None:
    code = node.call("api")["code"]
    with node.http("") as client:
        opened = client.post("/v1/sessions", json={"code": code})
        assert opened.json()["scopes"] == ["read", "trade", "admin"]
        cookie = opened.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/v1" in cookie
        assert client.get("/v1/status").is_success, "the page's cookie is enough"
        assert client.post("/v1/sessions", json={"code": code}).status_code == 401
        assert client.delete("/v1/sessions").status_code == 204
        assert client.get("/v1/status").status_code == 401


def sign_in(node: ApiNode, client: httpx.Client, **changes: str) -> httpx.Response:
    """As a wallet does it, with something else than it should be."""
    said = {
        "domain": urlsplit(node.url).netloc,
        "account": ACCOUNT,
        "nonce": client.get("/v1/sessions/nonce").json()["nonce"],
        "expires": (datetime.now(UTC) + timedelta(minutes=5)).isoformat(),
        **changes,
    }
    text = (
        f"{said['domain']} wants you to sign in with your Ethereum account:\n{said['account']}\n\n"
        f"Trade for me.\n\nURI: {node.url}\nVersion: 1\nChain ID: 1\nNonce: {said['nonce']}\n"
        f"Issued At: {datetime.now(UTC).isoformat()}\nExpiration Time: {said['expires']}"
    )
    octets = text.encode()
    prefix = b"\x19Ethereum Signed Message:\n" + str(len(octets)).encode()
    key = PrivateKey(b"\x08" * 32) if "signed by another" in changes else WALLET
    signature = secp256k1.sign(key, keccak256(prefix + octets))
    body = {"message": text, "signature": "0x" + signature.hex()}
    return client.post("/v1/sessions/wallet", json=body)


def test_a_wallet_that_is_named_reads_and_trades(node: ApiNode) -> None:
    with node.http("") as client:
        opened = sign_in(node, client)
        assert opened.json()["scopes"] == ["read", "trade"]
        assert client.get("/v1/orders").is_success
        refused = client.post("/v1/halt")
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"domain": "evil.example"}, "signed for 'evil.example'"),
        ({"expires": "2020-01-01T00:00:00Z"}, "has expired"),
        ({"nonce": "f" * 32}, "this nonce is used, old or none of ours"),
        ({"signed by another": ""}, "not of the account that the message names"),
        ({"account": "0x" + "11" * 20}, "not of the account that the message names"),
        ({"expires": "soon"}, "no time of RFC 3339"),
    ],
)
def test_a_login_that_is_not_right_opens_nothing(
    node: ApiNode, changes: dict[str, str], said: str
) -> None:
    with node.http("") as client:
        answer = sign_in(node, client, **changes)
        assert answer.status_code in (400, 401) and said in answer.json()["message"]
        assert client.get("/v1/orders").status_code == 401


# --- orders ---


def test_an_order_is_placed_once_seen_and_taken_back(http: httpx.Client) -> None:
    key = {"Idempotency-Key": secrets.token_hex(8)}
    first = http.post("/v1/orders", json=BUY, headers=key)
    assert first.status_code == 201
    assert http.post("/v1/orders", json=BUY, headers=key).json() == first.json()
    other = http.post("/v1/orders", json={**BUY, "quantity": "6"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    order = first.json()["order"]

    def state() -> str | None:
        rows = http.get("/v1/orders", params={"ended": True}).json()
        found = [row["state"] for row in rows if row["order"] == order]
        return found[0] if found else None

    until(lambda: state() == "open")
    assert ["100", "5", "1"] in http.get("/v1/book").json()["bids"]
    assert http.delete(f"/v1/orders/{order}").is_success
    until(lambda: state() == "ended")
    assert http.get("/v1/book").json()["bids"] == []


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({**BUY, "price": 100}, "body.price"),
        ({**BUY, "price": "0"}, "body.price"),
        ({**BUY, "price": "1.5"}, "body.price"),
        ({**BUY, "quantity": "9" * 19}, ""),
        ({**BUY, "side": "up"}, "body.side"),
        ({**BUY, "limit": "1"}, "body.limit"),
        ({"side": "buy"}, "body.price"),
        ([], "body"),
        ({**BUY, "market": "0x" + "00" * 32}, "no market"),
        ({**BUY, "author": "0x" + "00" * 20}, "no author"),
    ],
)
def test_an_order_that_cannot_be_is_told_why(http: httpx.Client, body: Any, said: str) -> None:
    answer = http.post("/v1/orders", json=body)
    assert answer.status_code in (400, 422)
    assert said in answer.json()["message"] and answer.json()["code"]


def test_what_changes_something_is_written_down(node: ApiNode, http: httpx.Client) -> None:
    http.delete("/v1/orders")
    rows = [json.loads(line) for line in (node.home / "api-audit.jsonl").read_text().splitlines()]
    last = rows[-1]
    assert (last["who"], last["method"], last["path"], last["status"]) == (
        "owner",
        "DELETE",
        "/v1/orders",
        200,
    )
    assert stat.S_IMODE((node.home / "api-audit.jsonl").stat().st_mode) == 0o600


# --- what it says of itself ---


def test_everything_its_description_allows_is_answered_as_it_says(node: ApiNode) -> None:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{node.url}/v1/openapi.json",
            "--header",
            f"Authorization: Bearer {node.token}",
            # A chain that is not there, a trade nobody made: 400 says so, and is documented.
            "--exclude-checks=positive_data_acceptance",
            "--max-examples=8",
            "--seed=1",
            "--phases=examples,coverage,fuzzing",
            "--exclude-path=/v1/halt",
        ],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=node.home,
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_the_page_that_explains_it_needs_no_other_host(http: httpx.Client) -> None:
    page = http.get("/docs").text
    assert "swagger-ui-bundle.js" in page and "http" not in page.replace("http.", "")
    assert http.get("/static-offline-docs/swagger-ui-bundle.js").is_success


def test_unknown_paths_and_methods_are_told(http: httpx.Client) -> None:
    assert http.get("/v1/nothing").json()["code"] == "not_found"
    answer = http.put("/v1/orders")
    assert (answer.status_code, answer.headers["allow"]) == (405, "DELETE, GET, POST")


# --- the stream ---


def stream_url(node: ApiNode, channels: str) -> str:
    return f"{node.url.replace('http', 'ws')}/v1/stream?channels={channels}"


def bearer(node: ApiNode) -> list[tuple[bytes, bytes]]:
    return [(b"Authorization", f"Bearer {node.token}".encode())]


async def test_a_book_is_told_whole_and_then_by_its_changes(node: ApiNode) -> None:
    market = node.call("markets")[0]["market"]
    url = stream_url(node, f"book:{market},tape:{market},orders:{market},status")
    book: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
    epoch, seen = None, set()
    async with open_websocket_url(url, extra_headers=bearer(node)) as stream:
        with trio.fail_after(30):
            await trio.to_thread.run_sync(
                lambda: node.call(
                    "submit",
                    operations=[
                        {"op": "place", "side": "buy", "price": "90", "quantity": "7"},
                        {"op": "place", "side": "sell", "price": "95", "quantity": "3"},
                    ],
                )
            )
            while book != {"bids": {"90": "7"}, "asks": {"95": "3"}} or "orders" not in seen:
                said = json.loads(await stream.get_message())
                seen.add(said["channel"].partition(":")[0])
                if not said["channel"].startswith("book:"):
                    continue
                data = said["data"]
                assert (said["type"] == "snapshot") is (epoch is None)
                assert epoch is None or data["after"] == epoch, "nothing is missed"
                epoch = data["epoch"]
                for side in ("bids", "asks"):
                    for price, lots, _ in data[side]:
                        book[side].pop(price, None)
                        if lots != "0":
                            book[side][price] = lots
    node.call("submit", operations=[{"op": "cancel_all"}])


def upgrade(node: ApiNode, channels: str, **headers: str) -> int:
    """The status of a handshake, as the bytes on the wire have it."""
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Version": "13",
        **headers,
    }
    with httpx.Client(base_url=node.url) as client:
        return client.get(f"/v1/stream?channels={channels}", headers=asked).status_code


@pytest.mark.parametrize("channels", ["", "book", "book:0x00", "status,nothing"])
def test_a_stream_of_nothing_is_refused(node: ApiNode, channels: str) -> None:
    assert upgrade(node, channels, Authorization=f"Bearer {node.token}") == 403


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer x"}, {"Origin": "http://evil.example"}]
)
def test_strangers_hear_nothing(node: ApiNode, headers: dict[str, str]) -> None:
    assert upgrade(node, "status", **headers) == 403


# --- what harms it ---


def test_ten_thousand_malformed_requests_and_frames_leave_it_up(node: ApiNode) -> None:
    place = urlsplit(node.url)
    address = (str(place.hostname), int(place.port or 0))
    rng = secrets.SystemRandom()
    upgrade = (
        f"GET /v1/stream?channels=status HTTP/1.1\r\nHost: {place.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {'A' * 22}==\r\nSec-WebSocket-Version: 13\r\n"
        f"Authorization: Bearer {node.token}\r\n\r\n"
    ).encode()
    starts = [
        b"",
        b"GET ",
        b"POST /v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /v1/orders HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /v1/%ff%00?%%%=\xff HTTP/1.1\r\nHost: \x00\r\n\r\n",
        f"POST /v1/orders HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 3\r\n\r\n".encode(),
    ]
    sent = 0
    while sent < 10_000:
        with socket.create_connection(address, 10) as connection:
            connection.settimeout(0.02)
            try:
                if rng.random() < 0.3:
                    connection.sendall(upgrade)
                    for _ in range(100):
                        connection.sendall(rng.randbytes(rng.randrange(1, 60)))
                        sent += 1
                else:
                    connection.sendall(rng.choice(starts) + rng.randbytes(rng.randrange(60)))
                    sent += 1
                connection.recv(4096)
            except OSError:
                pass
    with node.http() as client:
        assert client.get("/v1/status").json()["network"] == "development"
    assert node.process.poll() is None
    assert "Traceback" not in (node.home / "log").read_text()


def test_too_large_a_request_is_refused(http: httpx.Client) -> None:
    answer = http.post("/v1/swaps", json={"bundle": "x" * 300_000})
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")

    def chunks() -> Iterator[bytes]:
        for _ in range(300):
            yield b"x" * 1000

    answer = http.post("/v1/swaps", content=chunks())
    assert (answer.status_code, answer.json()["code"]) == (413, "too_large")
    assert http.get("/v1/book").is_success
