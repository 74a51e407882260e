"""Asks the HTTP door whether the daemon is well, and prints the status line: door.py SOCKET."""
import socket, sys

with socket.socket(socket.AF_UNIX) as door:
    door.settimeout(30)
    door.connect(sys.argv[1])
    door.sendall(b"GET /healthz HTTP/1.1\r\nHost: keyward\r\nConnection: close\r\n\r\n")
    print(door.makefile("r").readline())
