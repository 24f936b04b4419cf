"""Who listens where, and what a stranger gets there: gRPC and HTTP spoken by hand, with a token or without."""

import socket
import struct
from ipaddress import ip_address

import psutil

METHODS = (
    "NodeInfoGcsService/GetAllNodeInfo",
    "InternalKVGcsService/InternalKVKeys",
    "JobInfoGcsService/GetAllJobInfo",
    "NodeManagerService/GetSystemConfig",
    "ObjectManagerService/Push",
    "CoreWorkerService/GetCoreWorkerStats",
)
"""One at least of every server that Ray starts; each answers an empty request."""
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 0x1, 0x4
_SECONDS = 5.0


def process_tree(process: int) -> list[psutil.Process]:
    """A process and all that it has started, and so on."""
    root = psutil.Process(process)
    return [root, *root.children(recursive=True)]


def listeners(process: int) -> dict[tuple[str, int], str]:
    """Address and port of every listening socket of a process and all that it has started, and whose it is."""
    found = {}
    for each in process_tree(process):
        try:
            for connection in each.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found[connection.laddr.ip, connection.laddr.port] = each.name()
        except psutil.NoSuchProcess:
            continue
    return found


def listeners_with(variable: str, value: str) -> dict[tuple[str, int], str]:
    """As `listeners`, of all processes with an environment variable of that value and all that these have started."""
    found: dict[tuple[str, int], str] = {}
    for each in psutil.process_iter():
        try:
            if each.environ().get(variable) == value:
                found |= listeners(each.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def grpc_answer(at: tuple[str, int], method: str, token: str | None = None) -> bytes | None:
    """The message that a gRPC server returns for an empty request; None if it returns none."""
    headers = {":method": "POST", ":scheme": "http", ":path": method, ":authority": "127.0.0.1"}
    headers |= {"content-type": "application/grpc", "te": "trailers"}
    if token is not None:
        headers["authorization"] = f"Bearer {token}"
    block = b"".join(b"\0" + _text(name) + _text(value) for name, value in headers.items())
    request = _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, block)
    request += _frame(_DATA, _END_STREAM, 1, b"\0" * 5)
    answer = b""
    try:
        with socket.create_connection(_reached(at), _SECONDS) as connection, connection.makefile("rb") as stream:
            connection.sendall(_PREFACE + request)
            while len(head := stream.read(9)) == 9 and not head.startswith(b"HTTP/"):
                content = stream.read(int.from_bytes(head[:3], "big"))
                if head[5:] == struct.pack(">I", 1):
                    answer += content if head[3] == _DATA else b""
                    if head[4] & _END_STREAM:
                        break
    except OSError:  # not gRPC: it hung up or said nothing in time
        return None
    return answer[5:] if answer else None


def http_answer(at: tuple[str, int], method: str, path: str, token: str | None = None) -> tuple[int, bytes]:
    """Status and body that an HTTP server returns; status 0 if it speaks no HTTP."""
    access = f"Authorization: Bearer {token}\r\n" if token else ""
    request = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{access}Content-Length: 0\r\nConnection: close\r\n\r\n"
    try:
        with socket.create_connection(_reached(at), _SECONDS) as connection, connection.makefile("rb") as stream:
            connection.sendall(request.encode())
            head, _, body = stream.read().partition(b"\r\n\r\n")
    except OSError:
        return 0, b""
    return (int(head.split()[1]) if head.startswith(b"HTTP/1") else 0), body


def answered(at: tuple[str, int], token: str | None = None) -> list[str]:
    """The methods that return something where somebody listens."""
    methods = [name for name in METHODS if grpc_answer(at, f"/ray.rpc.{name}", token) is not None]
    status, _ = http_answer(at, "POST", "/get_or_create_runtime_env", token)
    return methods + ([f"HTTP {status}"] if status not in (0, 401, 403) else [])


def is_loopback(address: str) -> bool:
    ip = ip_address(address)
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def _reached(at: tuple[str, int]) -> tuple[str, int]:
    """Where from this machine one reaches who listens at an address, or at all of them."""
    address, port = at
    return ("127.0.0.1" if is_loopback(address) or ip_address(address).is_unspecified else address), port


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return struct.pack(">I", len(content))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + content


def _text(value: str) -> bytes:
    """A string of a header as HPACK has it, neither compressed nor longer than 126 bytes."""
    content = value.encode()
    assert len(content) < 127
    return bytes([len(content)]) + content
