"""Opens and closes sessions: keyward_admin.py SOCKET open AGENT SECONDS | close ID | close-all AGENT."""
import socket, struct, sys, time
ADD, REMOVE, CLOSE_ALL, DONE, REPORT, REFUSED, ERROR = 0x0301, 0x0303, 0x030d, 0x0401, 0x0406, 0x04fe, 0x04ff
STOPPING = 10
SESSION, CREDENTIAL_PATCH, CREDENTIAL_SELECTOR = (struct.pack(">I", number) for number in (2, 2, 1))

class Refused(Exception):
    """What failed, why, what to do. Nothing was changed, unless it says that it is not known."""
class NotServed(OSError):
    """The daemon was gone, or on its way out, twice: nothing was changed."""
class Unknown(OSError):
    """The connection ended before the reply: the change may or may not have been made. Look before you try again."""

def open_body(agent, expires_at):  # id, label, code, superuser; agent; default_agent to not_before; expires_at; the rest
    given = b"\0" * 4 + b"\1" + struct.pack(">Q", agent) + b"\0" * 6 + b"\1\1" + struct.pack(">Q", expires_at) + b"\0" * 5
    return CREDENTIAL_PATCH + SESSION + given
def close_body(session): return CREDENTIAL_SELECTOR + SESSION + struct.pack(">Q", session)
def close_all_body(agent): return SESSION + struct.pack(">Q", agent)
def cookie(done):  # the last field of Done: given, its length, then session ID:CODE
    start = done.rindex(b"session ")
    if done[start - 9:start] != b"\1" + struct.pack(">Q", len(done) - start): raise OSError("no new session in the reply")
    return done[start + 8:].decode()
def refusal(body):  # kind, an optional place of 12 bytes, the message behind its length
    return Refused(body[25 if body[4] else 13:].decode())

class Admin:
    """One connection to admin.sock, kept, and opened anew when it was dead; one thread at a time, and none over a fork.

    A change is sent a second time, once, only when it is certain that nobody carried it out: it could not be sent, or the
    daemon said that it is stopping. `timeout` is for each read and write; when it passes while a reply is awaited, the change is Unknown, too."""
    def __init__(self, path="/run/keyward/admin.sock", timeout=30.0):
        self.path, self.timeout, self.socket, self.replies, self.request_id = path, timeout, None, None, 0
        self.connect()
    def connect(self):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(self.timeout)
        try: self.socket.connect(self.path)
        except BaseException:
            self.close_connection()
            raise
        self.replies = self.socket.makefile("rb")
    def close_connection(self):
        if self.socket:  # the reader holds the descriptor, too
            self.socket.close()
            if self.replies: self.replies.close()
        self.socket = self.replies = None
    def call(self, kind, body, wanted, more=lambda body: False):
        """The bodies of the replies; `more` says of each whether another follows."""
        self.request_id = self.request_id % 0xffffffff + 1
        frame = struct.pack(">IHHI", 8 + len(body), 1, kind, self.request_id) + body
        try: return self.exchange(frame, wanted, more)
        except NotServed: return self.exchange(frame, wanted, more)
    def exchange(self, frame, wanted, more):
        if self.socket is None: self.connect()
        try:
            # A frame that did not go out whole is not carried out.
            try: self.socket.sendall(frame)
            except (BrokenPipeError, ConnectionResetError): raise self.why_closed() from None
            bodies = [self.reply(wanted)]
            while more(bodies[-1]): bodies.append(self.reply(wanted))
            return bodies
        except Refused: raise
        except BaseException:  # kept after a reply only, so that no late one is read as another's
            self.close_connection()
            raise
    def why_closed(self):
        try: return OSError(f"not a reason for closing: {self.reply(None)!r}")
        except Unknown: return NotServed("the daemon closed the connection")
        except OSError as error: return error
    def reply(self, wanted):
        try:
            head = self.replies.read(12)
            length, version, kind, request_id = struct.unpack(">IHHI", head) if len(head) == 12 else (8, 0, 0, 0)
            body = self.replies.read(length - 8)
        except (ConnectionResetError, socket.timeout) as error: raise Unknown(f"no reply: {error}") from None
        if len(head) < 12 or len(body) < length - 8: raise Unknown("the daemon closed the connection before its reply")
        if kind == ERROR and request_id in (0, self.request_id):
            code, words = int.from_bytes(body[:2], "big"), body[10:].decode()
            raise NotServed(words) if code == STOPPING else OSError(f"the daemon refused to serve: {words}")
        if (version, request_id, kind) == (1, self.request_id, REFUSED): raise refusal(body)
        if (version, request_id, kind) != (1, self.request_id, wanted): raise OSError(f"not what was asked for: {kind:#06x}")
        return body
    def open(self, agent, seconds):
        """At login: what goes into the cookie, ID:CODE. It is shown this once."""
        return cookie(self.call(ADD, open_body(agent, int(time.time()) + seconds), DONE)[0])
    def close(self, session):
        """At logout: no question that is asked from now on is allowed with it."""
        self.call(REMOVE, close_body(session), DONE)
    def close_all(self, agent):
        """Ends all of an agent's sessions; how many those were."""
        # Each part: added and changed, both empty; removed; dry_run; more.
        parts = self.call(CLOSE_ALL, close_all_body(agent), REPORT, more=lambda body: body[-1])
        return sum(struct.unpack_from(">Q", body, 16)[0] for body in parts)

if __name__ == "__main__":
    admin, (word, *numbers) = Admin(sys.argv[1]), sys.argv[2:]
    try: print({"open": admin.open, "close": admin.close, "close-all": admin.close_all}[word](*map(int, numbers)) or "closed")
    except Refused as refused: sys.exit(str(refused))
