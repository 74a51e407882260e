"""Asks with the shipped client until a file is there, and tells what came of it: load.py SOCKET CREDENTIAL FILE."""
import json, os, sys, time
sys.path.insert(0, os.path.dirname(__file__))
import keyward

socket, credential, stop = sys.argv[1:]
client = keyward.Keyward(socket, timeout=30)
asked, slowest, waited, failed = 0, 0.0, 0, []
while not os.path.exists(stop) and len(failed) < 10:
    begun = time.monotonic()
    try:
        verdict = client.check("GET", "/api/v2/tickets", credential=credential)
        if not verdict:
            failed.append(verdict.reason)
    except keyward.KeywardError as error:
        failed.append(str(error))
    took = time.monotonic() - begun
    asked, slowest, waited = asked + 1, max(slowest, took), waited + (took > 0.05)
print(json.dumps({"asked": asked, "slowest": slowest, "waited": waited, "failed": failed}))
