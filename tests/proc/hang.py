# SPDX-License-Identifier: BSD-2-Clause
"""hang.py IP PORT COMMANDS: asks an echo server without pause, a small question at a time, while each line of
COMMANDS is done to the stack: a shell command, or "say TEXT", which sends TEXT as a question. After each it waits
until answers have come without a gap for SETTLE. Prints a line of JSON for each: the longest time without an answer,
ms. What a program at the other end of the wire notices of it.
"""

import json
import socket
import subprocess
import sys
import threading
import time

SETTLE = 0.4  # longer than any single gap that may pass
LIMIT = 20


class Asker(threading.Thread):
    def __init__(self, address):
        super().__init__(daemon=True)
        self.socket = socket.create_connection(address, timeout=LIMIT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.lock = threading.Lock()
        self.last = time.monotonic()
        self.longest = 0.0
        self.text = None
        self.error = None

    def run(self):
        number = 0
        try:
            while True:
                number += 1
                with self.lock:
                    text, self.text = self.text or f"question {number} ", None
                self.socket.sendall(text.encode())
                answer = b""
                while len(answer) < len(text):
                    piece = self.socket.recv(4096)
                    if not piece:
                        raise EOFError("the connection ended")
                    answer += piece
                if answer != text.encode():
                    raise ValueError(f"{text!r} was answered with {answer!r}")
                with self.lock:
                    now = time.monotonic()
                    self.longest = max(self.longest, now - self.last)
                    self.last = now
                time.sleep(0.001)
        except Exception as error:
            self.error = error

    def begin(self, text):
        with self.lock:
            self.longest = 0.0
            self.text = text

    def gap(self):
        """The longest gap since begin(), when it is over."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end and self.error is None:
            with self.lock:
                quiet = time.monotonic() - self.last
            if self.text is None and quiet < 0.02 and time.monotonic() - self.began > SETTLE:
                return self.longest
            time.sleep(0.005)
        raise SystemExit(f"no answers: {self.error or 'none came'}")


asker = Asker((sys.argv[1], int(sys.argv[2])))
asker.start()
for line in sys.argv[3].splitlines():
    asker.began = time.monotonic()
    if line.startswith("say "):
        asker.begin(line[4:])
    else:
        asker.begin(None)
        subprocess.run(["sh", "-c", line], check=True, stdout=subprocess.DEVNULL)
    print(json.dumps({"what": line.split("/")[-1], "gap_ms": round(1000 * asker.gap(), 1)}), flush=True)
