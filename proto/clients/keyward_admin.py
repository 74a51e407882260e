"""Opens and closes sessions: keyward_admin.py SOCKET open AGENT SECONDS | close ID | close-all AGENT."""
import socket, struct, sys, time
ADD, REMOVE, CLOSE_ALL, DONE, REPORT, REFUSED = 0x0301, 0x0303, 0x030d, 0x0401, 0x0406, 0x04fe
SESSION, CREDENTIAL_PATCH, CREDENTIAL_SELECTOR = (struct.pack(">I", number) for number in (2, 2, 1))

class Refused(Exception):
    """What failed, why, what to do. Nothing was changed, unless it says that it is not known."""

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
    """One connection to admin.sock; keep it. When it ends before a reply, the change may or may not have been made."""
    def __init__(self, path):
        self.socket, self.request_id = socket.socket(socket.AF_UNIX), 0
        self.socket.connect(path)
        self.replies = self.socket.makefile("rb")
    def call(self, kind, body, wanted):
        self.request_id = self.request_id % 0xffffffff + 1
        self.socket.sendall(struct.pack(">IHHI", 8 + len(body), 1, kind, self.request_id) + body)
        return self.reply(wanted)
    def reply(self, wanted):
        head = self.replies.read(12)
        if len(head) < 12: raise OSError("the daemon closed the connection")
        length, version, kind, request_id = struct.unpack(">IHHI", head)
        body = self.replies.read(length - 8)
        if (version, request_id, kind) == (1, self.request_id, REFUSED): raise refusal(body)
        if (version, request_id, kind) != (1, self.request_id, wanted): raise OSError(f"not what was asked for: {kind:#06x}")
        return body
    def open(self, agent, seconds):
        """At login: what goes into the cookie, ID:CODE. It is shown this once."""
        return cookie(self.call(ADD, open_body(agent, int(time.time()) + seconds), DONE))
    def close(self, session):
        """At logout: no question that is asked from now on is allowed with it."""
        self.call(REMOVE, close_body(session), DONE)
    def close_all(self, agent):
        """Ends all of an agent's sessions; how many those were."""
        count, body = 0, self.call(CLOSE_ALL, close_all_body(agent), REPORT)
        while True:  # each part: added and changed, both empty; removed; dry_run; more
            count += struct.unpack_from(">Q", body, 16)[0]
            if not body[-1]: return count
            body = self.reply(REPORT)

if __name__ == "__main__":
    admin, (word, *numbers) = Admin(sys.argv[1]), sys.argv[2:]
    try: print({"open": admin.open, "close": admin.close, "close-all": admin.close_all}[word](*map(int, numbers)) or "closed")
    except Refused as refused: sys.exit(str(refused))
