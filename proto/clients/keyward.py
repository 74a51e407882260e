"""Asks Keyward: who is this, and may they do that? One file, Python 3.8 and later, the standard library alone.

    import keyward
    auth = keyward.Keyward("/run/keyward/query.sock", timeout=2)
    verdict = auth.check("GET", "/api/v2/tickets?page=2", credential=headers.get("Authorization"))
    if verdict: run_as(verdict.identity.agent_id)       # true for an allow and for nothing else
    else: answer(verdict.status, verdict.reason)

No verdict is an exception, `KeywardError`, and never an allow: answer 503.

The connection is kept. When it turns out dead, as after a restart of the daemon, the question is asked once more on a
new one; it may then take from the rate bucket twice. A connection on which a call failed is never used again, so no late
reply is read as another's. An object may be shared by threads: their calls wait for each other, so give each thread its
own where that matters. After a fork the child opens a connection of its own.

Text is sent as UTF-8; what a web client sent is best handed on as the bytes that came (of WSGI: text.encode("latin-1")).
"""
import os, socket, struct, threading, time, weakref
from dataclasses import dataclass
from typing import Dict, Optional, Tuple

FRAME_BYTES_MAX = 256 * 1024  # the query socket's maximum
CHECK, BATCH, WHO, VERDICT, VERDICTS, ERROR = 0x0101, 0x0102, 0x0103, 0x0201, 0x0202, 0x02ff
STOPPING = 10
MODES, CODES = ("key", "token", "session"), ("current", "retiring")
REASONS = """ok bad_request missing_credential malformed_credential bad_credential revoked disabled not_yet_valid expired
ip_not_allowed agent_switch_forbidden agent_required agent_unknown agent_disabled ambiguous_path no_route
mode_not_allowed tag_denied tag_not_granted agent_not_permitted rate_limited unavailable""".split()


class KeywardError(Exception):
    """There is no verdict. Never an allow."""

class Unavailable(KeywardError):
    """The daemon can't be reached, did not answer in time, or its answer can't be read."""

class Refused(Unavailable):
    """The daemon did not serve the request, or the connection; `code` is the number of PROTOCOL.md, section 5."""
    def __init__(self, code, message):
        super().__init__(f"the daemon refused to serve: {message}")
        self.code = code

class TooLarge(KeywardError):
    """The request does not fit into a frame and was not sent."""

class _Dead(Exception):
    """The connection is gone, through nothing that the request did."""


@dataclass(frozen=True)
class Identity:
    mode: str                    # key, token or session
    credential_id: int
    code: str                    # current, or retiring: time to fetch the new one
    expires_at: Optional[int]    # unix seconds
    app_id: Optional[int]        # a token's application
    agent_id: int                # the agent that the request runs as
    agent_name: str
    attributes: Dict[str, str]
    switched: bool               # the agent header made the agent differ from the bound or default one

@dataclass(frozen=True)
class Verdict:
    """True for an allow and for nothing else."""
    reason: str
    status: int                          # the HTTP status to answer with
    retry_after: int = 0                 # seconds, with rate_limited
    identity: Optional[Identity] = None  # on every allow but that of a public endpoint
    template: Optional[str] = None       # of the endpoint that matched
    tags: Tuple[str, ...] = ()
    def __bool__(self): return self.reason == "ok"

@dataclass(frozen=True)
class Batch:
    """True when every target is allowed. Each of `verdicts` belongs to the target in the same place."""
    verdicts: Tuple[Verdict, ...]
    identity: Optional[Identity]
    def __bool__(self): return bool(self.verdicts) and all(self.verdicts)
    def __iter__(self): return iter(self.verdicts)
    def __len__(self): return len(self.verdicts)
    def __getitem__(self, place): return self.verdicts[place]


def _content(data):
    # memoryview refuses a number, of which bytes() would make so many zeros.
    data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(memoryview(data))
    return struct.pack(">Q", len(data)) + data

def _option(data): return b"\0" if data is None else b"\1" + _content(data)

def _asker(credential, agent, address): return _option(credential) + _option(agent) + _option(address)

def endpoint(method, path):
    """A target: the request line, its path raw as it was received, query string and all."""
    return struct.pack(">I", 0) + _content(method) + _content(path)

def tags(*names):
    """A target: 1 to 16 tags, judged as one endpoint's."""
    return struct.pack(">IQ", 1, len(names)) + b"".join(map(_content, names))

def _frame(kind, request_id, body):
    if 8 + len(body) > FRAME_BYTES_MAX:
        raise TooLarge(f"the request was not sent: a frame holds {FRAME_BYTES_MAX} bytes; ask for less at once")
    return struct.pack(">IHHI", 8 + len(body), 1, kind, request_id) + body


class _Reader:
    """Reads a body field by field; raises ValueError where it is not what it should be."""
    def __init__(self, body): self.body, self.at = body, 0
    def take(self, size):
        if size > len(self.body) - self.at: raise ValueError("a body ends within a field")
        self.at += size
        return self.body[self.at - size:self.at]
    def number(self, size): return int.from_bytes(self.take(size), "big")
    def flag(self):
        value = self.number(1)
        if value > 1: raise ValueError(f"{value} is neither true nor false")
        return value == 1
    def one_of(self, names): return names[self.number(4)]
    def text(self): return self.take(self.number(8)).decode("utf-8")
    def option(self, read): return read() if self.flag() else None
    def items(self, read):
        count = self.number(8)
        if count > len(self.body) - self.at: raise ValueError("a list is longer than the body")
        return tuple(read() for _ in range(count))
    def end(self):
        if self.at != len(self.body): raise ValueError("bytes follow the body")

    def identity(self):
        seconds = lambda: self.number(8)
        return Identity(self.one_of(MODES), self.number(8), self.one_of(CODES), self.option(seconds), self.option(seconds),
                        self.number(8), self.text(), dict(self.items(lambda: (self.text(), self.text()))), self.flag())
    def judgement(self):
        number, status, retry_after = self.number(2), self.number(2), self.number(4)
        if number < len(REASONS): return REASONS[number], status, retry_after
        # A reason of a newer daemon: a denial, whatever else stands there.
        return f"unknown_{number}", status if 400 <= status <= 599 else 403, retry_after
    def verdict(self):
        reason, status, retry_after = self.judgement()
        identity = self.option(self.identity)
        template, names = self.option(lambda: (self.text(), self.items(self.text))) or (None, ())
        return Verdict(reason, status, retry_after, identity, template, names)
    def batch(self, count):
        number, status = self.number(2), self.number(2)
        identity, verdicts = self.option(self.identity), self.items(lambda: Verdict(*self.judgement()))
        if number == 0 and len(verdicts) == count: return Batch(verdicts, identity)
        if number == 0 or verdicts: raise ValueError(f"{len(verdicts)} verdicts for {count} targets")
        reason = REASONS[number] if number < len(REASONS) else f"unknown_{number}"
        return Batch((Verdict(reason, status if 400 <= status <= 599 else 403),) * count, None)
    def error(self): return self.number(2), self.text()


class _Connection:
    """One connection. After an exception it is of no use any more."""
    def __init__(self, path, deadline):
        self.buffer, self.socket = bytearray(), socket.socket(socket.AF_UNIX)
        try: self._connect(path, deadline)
        except BaseException:
            self.socket.close()
            raise
    def _connect(self, path, deadline):
        while True:
            self._limit(deadline)
            try: return self.socket.connect(path)
            except BlockingIOError: time.sleep(0.005)  # as many wait to be accepted as the listener lets
    def _limit(self, deadline):
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0: raise socket.timeout("timed out")
        self.socket.settimeout(left)
    def send(self, data, deadline):
        self._limit(deadline)
        try: self.socket.sendall(data)
        # The daemon has closed. An error frame that says why may lie ready: read on.
        except (BrokenPipeError, ConnectionResetError): pass
    def receive(self, deadline):
        """Type, request id and body of the next frame."""
        while True:
            if len(self.buffer) >= 4:
                length = int.from_bytes(self.buffer[:4], "big")
                if not 8 <= length <= FRAME_BYTES_MAX: raise ValueError(f"a frame of {length} bytes")
                if len(self.buffer) >= 4 + length: break
            self._limit(deadline)
            try: data = self.socket.recv(64 * 1024)
            except ConnectionResetError: data = b""
            if not data: raise _Dead("the daemon closed the connection")
            self.buffer += data
        version, kind, request_id = struct.unpack_from(">HHI", self.buffer, 4)
        body = bytes(self.buffer[12:4 + length])
        del self.buffer[:4 + length]
        if version != 1 and kind != ERROR: raise ValueError(f"version {version} of the protocol")
        return kind, request_id, body


class Keyward:
    """Asks questions on one kept connection, which the first question opens.

    `timeout` is for a whole call, in seconds; None waits for ever. Where nobody listens, a call fails at once."""
    def __init__(self, path="/run/keyward/query.sock", timeout=5.0):
        self.path, self.timeout, self._request_id = path, timeout, 0
        self._lock, self._connection, self._asked = threading.Lock(), None, None
        _all.add(self)
    def check(self, method, path, credential=None, agent=None, address=None):
        """May they call this endpoint? `credential`, `agent`, `address`: the values of the request's Authorization and
        X-DeskPRO-Agent-ID headers and the web client's address, None where there is none."""
        return self._ask(CHECK, _asker(credential, agent, address) + endpoint(method, path), VERDICT, _Reader.verdict)
    def check_tags(self, names, credential=None, agent=None, address=None):
        """May they do what these tags name, as if they were one endpoint's?"""
        return self._ask(CHECK, _asker(credential, agent, address) + tags(*names), VERDICT, _Reader.verdict)
    def who(self, credential=None, agent=None, address=None):
        """Who is this?"""
        return self._ask(WHO, _asker(credential, agent, address), VERDICT, _Reader.verdict)
    def batch(self, targets, credential=None, agent=None, address=None):
        """May they do each of these? 1 to 1024 targets of `endpoint` and `tags`, judged on one state."""
        targets = tuple(targets)
        body = _asker(credential, agent, address) + struct.pack(">Q", len(targets)) + b"".join(targets)
        return self._ask(BATCH, body, VERDICTS, lambda reader: reader.batch(len(targets)))
    def close(self):
        """Closes the connection; the next question opens another."""
        with self._lock: self._drop()
    def __enter__(self): return self
    def __exit__(self, *_): self.close()

    def _ask(self, kind, body, wanted, read):
        with self._lock:
            self._request_id = self._request_id % 0xffffffff + 1
            frame = _frame(kind, self._request_id, body)
            deadline = None if self.timeout is None else time.monotonic() + self.timeout
            try:
                try: return self._ask_once(frame, wanted, read, deadline)
                except _Dead: return self._ask_once(frame, wanted, read, deadline)
            except _Dead as dead: raise Unavailable(f"no verdict, twice: {dead}") from None
            except socket.timeout: raise Unavailable("the daemon did not answer in time") from None
            except OSError as error: raise Unavailable(f"cannot reach the daemon at {self.path}: {error}") from error
    def _ask_once(self, frame, wanted, read, deadline):
        # Kept for the next call after a success only.
        connection, self._connection = self._connection or _Connection(self.path, deadline), None
        self._asked = connection  # for a fork meanwhile
        try:
            connection.send(frame, deadline)
            answer = self._answer(connection.receive(deadline), wanted, read)
        except (ValueError, IndexError) as error:
            connection.socket.close()
            raise Unavailable(f"the daemon's reply can't be read: {error}") from error
        except BaseException:
            connection.socket.close()
            raise
        finally: self._asked = None
        self._connection = connection
        return answer
    def _answer(self, received, wanted, read):
        kind, request_id, body = received
        reader = _Reader(body)
        if kind == ERROR and request_id in (0, self._request_id):
            code, message = reader.error()
            raise _Dead(message) if code == STOPPING else Refused(code, message)
        if (kind, request_id) != (wanted, self._request_id): raise ValueError("it answers something else")
        answer = read(reader)
        reader.end()
        return answer
    def _drop(self):
        for connection in (self._connection, self._asked):
            if connection: connection.socket.close()
        self._connection = self._asked = None

_all = weakref.WeakSet()

def _after_fork():
    """The connections are the parent's: replies to both would be mixed up. A lock may be held by a thread that is gone."""
    for client in list(_all):
        client._lock = threading.Lock()
        client._drop()

os.register_at_fork(after_in_child=_after_fork)
