"""What it costs to carry a change out in batches, each row archived: rows a second, and how long another session's writes wait meanwhile.

Beside it: the statement alone, and the rows copied aside and changed in one transaction, which is what an archive costs by hand; on MariaDB
also pt-archiver, which deletes without an archive. The server is durable (fsync at every commit). One writer changes rows of the same table
that the statement leaves, some 500 times a second, throughout; each way begins with the same table.
"""

import multiprocessing
import random
import re
import statistics
import subprocess
import time

import idle
import idle_mysql
from peers import DEBIAN_BIN, MYSQL, House
from rounds import Results, options, say, show

SHAPE = "id {int} PRIMARY KEY, grp int NOT NULL, n int NOT NULL, touched int NOT NULL, filler char(84) NOT NULL"
CHANGES = {"DELETE": "DELETE FROM filled WHERE grp = 3", "UPDATE": "UPDATE filled SET n = n + 1 WHERE grp = 3"}
BATCH_ROWS = 5_000
LIMITS = f"[limits]\nbatch_rows = {BATCH_ROWS}\nmax_affected = 100000000\nmax_affected_limit = 100000000\n"


def main():
    parser = options(__doc__, "DELETE,UPDATE")
    parser.add_argument("--server", default="postgres", choices=["postgres", "mariadb", "mysql"])
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the table; one in five is changed")
    wanted = parser.parse_args()
    results = Results("", ("the statement alone", "copied and changed"))
    names = {}
    with House(wanted.sluice) as house:
        side = (Postgres if wanted.server == "postgres" else MySql)(house, wanted)
        for round_number in range(wanted.rounds):
            for verb in wanted.only:
                for name, way in side.ways(verb):
                    say(f"round {round_number + 1}/{wanted.rounds}  {verb}  {name}")
                    names[name] = None
                    side.fill()
                    results.add(f"{verb} of {wanted.rows // 5:,} rows of {wanted.rows:,}", name, measured(side, way, wanted.rows // 5))
    show(results, list(names), side.versions)


def measured(side, way, rows):
    """Rows a second, and the writer's latencies in microseconds."""
    told, stop = multiprocessing.Queue(), multiprocessing.Event()
    writer = multiprocessing.Process(target=write, args=(side.raw, side.server.port, side.wanted.rows, told, stop), daemon=True)
    writer.start()
    told.get(timeout=30)
    started = time.monotonic()
    changed = way()
    elapsed = time.monotonic() - started
    stop.set()
    latencies = sorted(told.get(timeout=60))
    writer.join()
    at = lambda part: latencies[min(len(latencies) - 1, int(len(latencies) * part))] * 1e6
    found = {"rows/s": rows / elapsed} if changed else {}
    return {**found, "writer p50 us": at(0.5), "writer p99 us": at(0.99), "writer max us": latencies[-1] * 1e6}


def write(raw, port, rows, told, stop):
    session, chance, latencies = raw(port), random.Random(7), []
    told.put("ready")
    while not stop.is_set():
        # Another group's.
        place = chance.randrange(rows // 5) * 5 + 1
        began = time.monotonic()
        while True:
            try:
                session.query(f"UPDATE filled SET touched = touched + 1 WHERE id = {place}")
                break
            except RuntimeError as error:
                # Where a statement locks all that it reads, one of two has to give way.
                if "Deadlock" not in str(error) and "Lock wait" not in str(error):
                    raise
        latencies.append(time.monotonic() - began)
        time.sleep(0.002)
    told.put(latencies)


class Side:
    def __init__(self, house, wanted):
        self.house, self.wanted = house, wanted

    def ways(self, verb):
        statement = CHANGES[verb]
        yield "nothing but the writer", lambda: time.sleep(self.wanted.seconds)
        yield "the statement alone", lambda: self.run(self.server, statement)
        yield "copied and changed", lambda: self.run(self.server, *self.by_hand(statement))
        yield "sluice", lambda: self.by_sluice(statement)

    def by_sluice(self, statement):
        token = re.search(r"SLUICE CONFIRM '([0-9A-Z-]+)'", self.refused(statement))[1]
        return self.run(self.sluice, f"SLUICE CONFIRM '{token}'")


class Postgres(Side):
    raw = idle.Raw
    versions = ([str(DEBIAN_BIN / "postgres"), "--version"],)

    def __init__(self, house, wanted):
        super().__init__(house, wanted)
        self.server = house.postgres(durable=True)
        self.sluice = house.start_sluice("postgres", self.server.port, more=LIMITS)
        self.run(self.server, f"CREATE TABLE template ({SHAPE.format(int='int')})",
                 f"INSERT INTO template SELECT i, i % 5, 0, 0, 'x' FROM generate_series(1, {wanted.rows}) i")

    def psql(self, peer, *texts):
        words = [word for text in texts for word in ("-c", text)]
        place = ["-h", "127.0.0.1", "-p", str(peer.port), "-U", "postgres", "postgres"]
        return subprocess.run([str(DEBIAN_BIN / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *place, *words], capture_output=True, text=True)

    def run(self, peer, *texts):
        ran = self.psql(peer, *texts)
        if ran.returncode != 0:
            raise RuntimeError(ran.stderr)
        return True

    def refused(self, statement):
        return self.psql(self.sluice, statement).stderr

    def fill(self):
        old = "DO $$ DECLARE t text; BEGIN FOR t IN SELECT relname FROM pg_class WHERE relname LIKE '\\_archive%' AND relkind = 'r' LOOP EXECUTE 'DROP TABLE ' || t; END LOOP; END $$"
        self.run(self.server, "DROP TABLE IF EXISTS filled, copied", old, "CREATE TABLE filled (LIKE template INCLUDING ALL)",
                 "INSERT INTO filled SELECT * FROM template", "VACUUM ANALYZE filled", "CHECKPOINT")

    def by_hand(self, statement):
        return "BEGIN", "CREATE TABLE copied AS SELECT * FROM filled WHERE grp = 3", statement, "COMMIT"


class MySql(Side):
    raw = idle_mysql.Raw

    def __init__(self, house, wanted):
        super().__init__(house, wanted)
        self.server = house.mariadb(durable=True) if wanted.server == "mariadb" else house.mysql(durable=True)
        self.versions = (["mariadbd", "--version"] if wanted.server == "mariadb" else [str(MYSQL / "mysqld"), "--version"],)
        self.client("root", self.server, "CREATE DATABASE bench; CREATE USER bench@'127.0.0.1'; GRANT ALL ON *.* TO bench@'127.0.0.1'", database=None)
        self.sluice = house.start_sluice("mysql", self.server.port, more=LIMITS)
        digits = "SELECT 0 AS d UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9"
        number = " + ".join(f"{10 ** place} * d{place}.d" for place in range(7))
        tables = ", ".join(f"digits d{place}" for place in range(7))
        self.run(self.server, f"CREATE TABLE digits AS {digits}", f"CREATE TABLE template ({SHAPE.format(int='int')})",
                 f"INSERT INTO template SELECT i, i % 5, 0, 0, 'x' FROM (SELECT 1 + {number} AS i FROM {tables}) r WHERE i <= {wanted.rows}")

    def client(self, user, peer, text, database="bench"):
        words = ["mariadb", "--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={peer.port}", f"--user={user}", "--skip-ssl"]
        return subprocess.run([*words, *([database] if database else []), "--execute", text], capture_output=True, text=True)

    def run(self, peer, *texts):
        ran = self.client("bench", peer, "; ".join(texts))
        if ran.returncode != 0:
            raise RuntimeError(ran.stderr)
        return True

    def refused(self, statement):
        return self.client("bench", self.sluice, statement).stderr

    def fill(self):
        listed = self.client("bench", self.server, "SHOW TABLES LIKE '\\_archive%'").stdout.splitlines()[1:]
        drops = [f"DROP TABLE `{name}`" for name in listed]
        self.run(self.server, *drops, "DROP TABLE IF EXISTS filled, copied", "CREATE TABLE filled LIKE template",
                 "INSERT INTO filled SELECT * FROM template", "ANALYZE TABLE filled")

    def by_hand(self, statement):
        copy = "INSERT INTO copied SELECT * FROM filled WHERE grp = 3"
        return "CREATE TABLE copied LIKE filled", "BEGIN", copy, statement, "COMMIT"

    def ways(self, verb):
        yield from super().ways(verb)
        if verb == "DELETE" and self.wanted.server == "mariadb":
            yield "pt-archiver", self.pt_archiver

    def pt_archiver(self):
        """Its fastest: deletes by ranges of the key, and keeps nothing."""
        source = f"h=127.0.0.1,P={self.server.port},u=bench,D=bench,t=filled"
        words = ["--purge", "--bulk-delete", f"--limit={BATCH_ROWS}", "--commit-each", "--no-check-charset", "--no-version-check"]
        ran = subprocess.run(["pt-archiver", "--source", source, "--where", "grp = 3", *words], capture_output=True, text=True)
        if ran.returncode != 0:
            raise RuntimeError(ran.stderr)
        return True


if __name__ == "__main__":
    main()
