"""MySQL's and MariaDB's side of idle.py: an upstream that says again what a real server said once, and clients with as little of
their own as can be.

Sluice asks questions of its own, whose answers it has to understand: the first session's words go to a real server, and whoever says the
same words later gets the same answer. No session says anything that depends on which one it is.
"""

import socket
import struct
import sys

import idle

CLIENT = 0x00000001 | 0x00000008 | 0x00000080 | 0x00000200 | 0x00002000 | 0x00008000 | 0x00080000
"""LONG_PASSWORD, CONNECT_WITH_DB, LOCAL_FILES, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH."""

QUIT = b"\x01"


def packet(number, payload):
    return struct.pack("<I", len(payload))[:3] + bytes([number & 0xFF]) + payload


class Raw:
    """A client that logs in without a password, and reads no more than where an answer ends."""

    def __init__(self, port, database="bench", timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer, self.read = memoryview(bytearray(1 << 20)), b""
        self.next()
        login = struct.pack("<IIB23x", CLIENT, 1 << 24, 45) + b"bench\0\0" + database.encode() + b"\0mysql_native_password\0"
        self.socket.sendall(packet(1, login))
        answer = self.next()
        if answer[4] == 0xFE:
            # Another plugin than ours: without a password it is answered with nothing by all.
            self.socket.sendall(packet(answer[3] + 1, b""))
            answer = self.next()
        self.refuse_errors(answer)

    def query(self, text):
        """The number of bytes answered."""
        answer = self.ask(text)
        total = len(answer)
        if answer[4] != 0x00:
            while not is_end(answer):
                answer = self.next()
                total += len(answer)
            total += self.until_end()
        return total

    def load(self, text, block, times):
        """LOAD DATA LOCAL of a block of 256 packets, whose numbers so go round to where they began; the number of bytes sent."""
        answer = self.ask(text)
        if answer[4] != 0xFB:
            raise RuntimeError(answer)
        for _ in range(times):
            self.socket.sendall(block)
        self.socket.sendall(packet(2, b""))
        self.refuse_errors(self.next())
        return len(block) * times

    def ask(self, text):
        self.socket.sendall(packet(0, b"\x03" + text.encode()))
        answer = self.next()
        self.refuse_errors(answer)
        return answer

    def refuse_errors(self, answer):
        if answer[4] == 0xFF:
            raise RuntimeError(answer)

    def next(self):
        """One packet whole."""
        while len(self.read) < 4 or len(self.read) < 4 + int.from_bytes(self.read[:3], "little"):
            count = self.socket.recv_into(self.buffer)
            if count == 0:
                raise RuntimeError(f"closed: {self.read!r}")
            self.read += bytes(self.buffer[:count])
        length = 4 + int.from_bytes(self.read[:3], "little")
        answer, self.read = self.read[:length], self.read[length:]
        return answer

    def until_end(self):
        """Reads rows to the EOF at the end of what has come; rows that look like one do not occur here."""
        total, tail, self.read = len(self.read), self.read[-9:], b""
        while not is_end(tail):
            count = self.socket.recv_into(self.buffer)
            if count == 0:
                raise RuntimeError(f"closed: {bytes(tail)!r}")
            total += count
            tail = (tail + bytes(self.buffer[max(0, count - 9):count]))[-9:]
        return total

    def release(self):
        """The buffer is not needed while idle."""
        self.buffer = memoryview(bytearray(8192))

    def close(self):
        self.socket.close()


def is_end(tail):
    return len(tail) == 9 and tail[:3] == b"\x05\0\0" and tail[4] == 0xFE


def hold(port, count):
    """That many sessions, each of which has asked something of a table and now waits."""
    sessions = []
    for _ in range(count):
        session = Raw(port)
        session.query("SELECT c FROM sbtest1 WHERE id = 1")
        session.release()
        sessions.append(session)
    return sessions


class Real:
    """A connection to the real server."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.greeting = self.heard()

    def answer(self, said):
        self.socket.sendall(said)
        return self.heard()

    def heard(self):
        """An answer is whole when nothing more comes: how it ends depends on what was agreed, which is nothing of ours."""
        heard = b""
        self.socket.settimeout(5)
        while True:
            try:
                part = self.socket.recv(65536)
            except TimeoutError:
                return heard
            if not part:
                return heard
            heard += part
            self.socket.settimeout(0.2)


class Session:
    """One connection's side of the upstream. What nobody said before is said to the real server, behind all that this one said."""

    def __init__(self, server, greeting, answers):
        self.server, self.opening, self.answers = server, greeting, answers
        self.said, self.real, self.waiting = [], None, b""

    def answer(self, received):
        self.waiting += received
        answer = b""
        while len(self.waiting) >= 4:
            length = 4 + int.from_bytes(self.waiting[:3], "little")
            if len(self.waiting) < length:
                break
            said, self.waiting = self.waiting[:length], self.waiting[length:]
            if said[4:] == QUIT:
                break
            self.said.append(said)
            # What was agreed at the login decides how an answer is written.
            key = self.said[0], said
            if self.real or key not in self.answers:
                self.answers[key] = self.asked(said)
            answer += self.answers[key]
        return answer

    def asked(self, said):
        """Once begun, all of a session is said to the real server."""
        if self.real is None:
            self.real = Real(self.server)
            for earlier in self.said[:-1]:
                self.real.answer(earlier)
        return self.real.answer(said)


if __name__ == "__main__":
    server, answers = int(sys.argv[2]), {}
    greeting = Real(server).greeting
    idle.serve(int(sys.argv[1]), lambda: Session(server, greeting, answers))
