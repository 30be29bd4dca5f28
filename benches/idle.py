"""Thousands of idle sessions: an upstream that answers everything with nothing, and the clients that hold them.

A real server would need a process for each session, which says nothing of the proxy before it.
"""

import selectors
import socket
import struct
import sys


def message(tag, body):
    return tag + struct.pack(">i", len(body) + 4) + body


def parameters():
    values = {
        "application_name": "idle", "client_encoding": "UTF8", "DateStyle": "ISO, MDY", "default_transaction_read_only": "off",
        "in_hot_standby": "off", "integer_datetimes": "on", "IntervalStyle": "postgres", "is_superuser": "on",
        "server_encoding": "UTF8", "server_version": "15.0", "session_authorization": "postgres",
        "standard_conforming_strings": "on", "TimeZone": "Etc/UTC",
    }
    return b"".join(message(b"S", f"{name}\0{value}\0".encode()) for name, value in values.items())


READY = message(b"Z", b"I")
LOGIN = message(b"R", struct.pack(">i", 0)) + parameters() + message(b"K", struct.pack(">ii", 7, 7)) + READY
ANSWER = message(b"T", struct.pack(">h", 0)) + message(b"D", struct.pack(">h", 0)) + message(b"C", b"SELECT 1\0") + READY


class Session:
    """One connection's side of the upstream: the login, then an answer without rows to every message, and a status that follows BEGIN."""

    ANSWERS = {b"P": message(b"1", b""), b"B": message(b"2", b""), b"C": message(b"3", b""), b"D": message(b"n", b""), b"E": message(b"C", b"SELECT 0\0")}

    opening = b""

    def __init__(self):
        self.begun, self.status, self.waiting = False, b"I", b""

    def answer(self, received):
        if not self.begun:
            self.begun = True
            return LOGIN
        self.waiting += received
        answer = b""
        while len(self.waiting) >= 5:
            tag, length = self.waiting[:1], struct.unpack(">i", self.waiting[1:5])[0] + 1
            if len(self.waiting) < length:
                break
            body, self.waiting = self.waiting[5:length], self.waiting[length:]
            text = body.split(b"\0", 1)[-1] if tag == b"P" else body
            if tag in b"PQ":
                self.status = b"T" if text.startswith(b"BEGIN") else b"I" if text.startswith((b"ROLLBACK\0", b"COMMIT")) else self.status
            if tag == b"Q":
                answer += ANSWER[: -len(READY)]
            answer += self.ANSWERS.get(tag, b"")
            if tag in b"QS":
                answer += message(b"Z", self.status)
        return answer


def serve(port, session=Session):
    """Runs until it is ended. A session says its opening first, and then answers what it is sent."""
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    watched = selectors.DefaultSelector()
    watched.register(listener, selectors.EVENT_READ, None)
    while True:
        for key, _ in watched.select():
            if key.data is None:
                connection, _ = listener.accept()
                connection.setblocking(False)
                begun = session()
                watched.register(connection, selectors.EVENT_READ, begun)
                if begun.opening:
                    connection.send(begun.opening)
                continue
            try:
                received = key.fileobj.recv(65536)
            except OSError:
                received = b""
            if not received:
                watched.unregister(key.fileobj)
                key.fileobj.close()
                continue
            answer = key.data.answer(received)
            if answer:
                key.fileobj.send(answer)


class Raw:
    """A client with as little of its own as can be."""

    def __init__(self, port, timeout=60):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = memoryview(bytearray(1 << 20))
        body = struct.pack(">i", 196608) + b"user\0postgres\0database\0postgres\0\0"
        self.socket.sendall(struct.pack(">i", len(body) + 4) + body)
        self.until_ready()

    def query(self, text):
        """The number of bytes answered."""
        self.socket.sendall(message(b"Q", text.encode() + b"\0"))
        return self.until_ready()

    def until_ready(self):
        """Reads to a ReadyForQuery at the end of what has come; rows that look like one do not occur here."""
        total, tail = 0, b""
        while not (len(tail) >= 6 and tail[-6:-1] == READY[:-1]):
            count = self.socket.recv_into(self.buffer)
            if count == 0:
                raise RuntimeError(f"closed: {bytes(tail)!r}")
            total += count
            tail = (tail + bytes(self.buffer[max(0, count - 64):count]))[-64:]
        return total

    def copy_in(self, text, block, times):
        """The number of bytes sent."""
        self.socket.sendall(message(b"Q", text.encode() + b"\0"))
        count = self.socket.recv_into(self.buffer)
        if self.buffer[0] != ord("G"):
            raise RuntimeError(bytes(self.buffer[:count]))
        for _ in range(times):
            self.socket.sendall(block)
        self.socket.sendall(message(b"c", b""))
        self.until_ready()
        return len(block) * times

    def release(self):
        """The buffer is not needed while idle."""
        self.buffer = memoryview(bytearray(8192))

    def close(self):
        self.socket.close()


def hold(port, count):
    """That many sessions, each of which has asked something and now waits."""
    sessions = []
    for _ in range(count):
        session = Raw(port)
        session.query("SELECT 1")
        session.release()
        sessions.append(session)
    return sessions


if __name__ == "__main__":
    serve(int(sys.argv[1]))
