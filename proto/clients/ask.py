"""Asks Keyward one question: ask.py SOCKET CREDENTIAL METHOD PATH [AGENT]. Exit status 0 is an allow."""
import os, socket, struct, sys
REASONS = """ok bad_request missing_credential malformed_credential bad_credential revoked disabled not_yet_valid expired
ip_not_allowed agent_switch_forbidden agent_required agent_unknown agent_disabled ambiguous_path no_route
mode_not_allowed tag_denied tag_not_granted agent_not_permitted rate_limited unavailable""".split()
def content(data): return struct.pack(">Q", len(data)) + data
def option(data): return b"\0" if data is None else b"\1" + content(data)
def encode(request_id, credential, method, path, agent=None, address=None):
    asker = option(credential) + option(agent) + option(address)
    body = asker + struct.pack(">I", 0) + content(method) + content(path)  # 0: the target is an endpoint
    return struct.pack(">IHHI", 8 + len(body), 1, 0x0101, request_id) + body
def decode(frame):
    if frame[:4] != b"\0\1\2\1": raise OSError(f"not a verdict but {frame!r}")  # version 1, type 0x0201
    reason, status, _retry_after, known, agent = *struct.unpack_from(">HHI?", frame, 8), None
    if known:  # mode, credential id and code end at 33; expires_at and app_id take 1 or 9 bytes each
        at = 42 if frame[33] else 34
        at += 9 if frame[at] else 1
        agent_id, size = struct.unpack_from(">QQ", frame, at)
        agent = f"{agent_id} {frame[at + 16:at + 16 + size].decode()}"
    return REASONS[reason] if reason < len(REASONS) else "unknown", status, agent
if __name__ == "__main__":
    with socket.socket(socket.AF_UNIX) as connection, connection.makefile("rb") as replies:
        connection.connect(sys.argv[1]); connection.sendall(encode(1, *map(os.fsencode, sys.argv[2:])))
        print(*(verdict := decode(replies.read(*struct.unpack(">I", replies.read(4))))))
    sys.exit(verdict[0] != "ok")
