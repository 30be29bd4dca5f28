"""MySQL's and MariaDB's side of idle.py: an upstream that answers every command with OK, and clients with as little of their own as can be."""

import socket
import struct
import sys

CLIENT = 0x00000001 | 0x00000008 | 0x00000080 | 0x00000200 | 0x00002000 | 0x00008000 | 0x00080000
"""LONG_PASSWORD, CONNECT_WITH_DB, LOCAL_FILES, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, PLUGIN_AUTH."""


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
        """LOAD DATA LOCAL; the number of bytes sent. The packets of a block count on from one another."""
        answer = self.ask(text)
        if answer[4] != 0xFB:
            raise RuntimeError(answer)
        for _ in range(times):
            self.socket.sendall(block)
        packets = block_packets(block) * times
        self.socket.sendall(packet(2 + packets, b""))
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
