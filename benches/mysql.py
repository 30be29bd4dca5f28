"""What it costs to stand before MariaDB or MySQL: Sluice beside HAProxy (TCP mode), MySQL Router and no proxy at all."""

import re
import subprocess

from idle_mysql import Raw, hold, packet
from peers import MYSQL, House
from rounds import ROWS, Results, all_sluices, bulk, idle, in_turns, options, show

MODES = {"text": "disable", "prepared": "auto"}
TABLE_SIZE = 100_000
PACKET = 16 * 1024
SELECT = "SELECT id, a, b, filler FROM filled"
# The name of a file is for the client, which sends what it likes.
LOAD = "LOAD DATA LOCAL INFILE 'rows' INTO TABLE loaded"
SERVERS = {"mariadb": ["mariadbd", "--version"], "mysql": [str(MYSQL / "mysqld"), "--version"]}
VERSIONS = (["haproxy", "-v"], [str(MYSQL / "mysqlrouter"), "--version"], ["sysbench", "--version"])


def main():
    parser = options(__doc__, "select,readonly,bulk,idle")
    parser.add_argument("--modes", default=list(MODES), type=lambda text: text.split(","))
    parser.add_argument("--server", default="mariadb", choices=SERVERS)
    wanted = parser.parse_args()
    results = Results(wanted.server, ("router", "haproxy"))
    with House(wanted.sluice) as house:
        server = house.server = house.mariadb() if wanted.server == "mariadb" else house.mysql()
        prepare(server)
        peers = [server, house.start_haproxy(server.port), house.start_router(server.port)]
        peers += all_sluices(house, wanted, lambda name: house.start_sluice("mysql", server.port, name))
        in_turns(results, wanted.rounds, list(scenarios(wanted, house)), peers)
        for peer in peers[1:]:
            house.stop(peer)
        if "idle" in wanted.only:
            sluice = lambda port: house.start_sluice("mysql", port, "sluice idle")
            starts = {"haproxy": house.start_haproxy, "router": house.start_router, "sluice": sluice}
            idle(house, results, wanted.sessions, ["idle_mysql.py", server.port], starts, hold)
    show(results, [peer.name for peer in peers], [*VERSIONS, SERVERS[wanted.server]])


def prepare(server):
    """An account without a password: how somebody logs in is not what is measured."""
    root = ["mariadb", "--no-defaults", "--protocol=tcp", "--host=127.0.0.1", f"--port={server.port}", "--user=root", "--skip-ssl"]
    text = "CREATE DATABASE bench; CREATE USER bench@'127.0.0.1'; GRANT ALL ON bench.* TO bench@'127.0.0.1'"
    subprocess.run([*root, "--execute", text], check=True)
    sysbench(server, ["oltp_point_select", "prepare"])
    direct = Raw(server.port)
    for name, engine in (("filled", "InnoDB"), ("loaded", "MyISAM")):
        direct.query(f"CREATE TABLE {name} (id int, a int, b int, filler char(84)) ENGINE={engine}")
    direct.load(LOAD.replace("loaded", "filled"), *rows())
    direct.close()


def scenarios(wanted, house):
    for part, script, name in (("select", "oltp_point_select", "point select"), ("readonly", "oltp_read_only", "read only")):
        for clients in wanted.clients if part in wanted.only else []:
            for mode in wanted.modes:
                yield f"{name} {mode}, {clients} clients", lambda peer, script=script, mode=mode, clients=clients: measured(
                    peer, [script, f"--db-ps-mode={MODES[mode]}", f"--threads={clients}"], wanted.seconds)
    if "bulk" in wanted.only:
        yield f"SELECT of {ROWS:,} rows", lambda peer: bulk(peer, Raw, lambda raw: raw.query(SELECT), wanted.seconds)
        yield f"LOAD DATA LOCAL of {ROWS:,} rows", lambda peer: load(house, peer, wanted.seconds)


def measured(peer, words, seconds):
    """Queries a second, processor time of the peer for each, and of the transactions the latency in the middle and of 95 in 100."""
    before = peer.cpu()
    said = sysbench(peer, [*words, f"--time={max(1, round(seconds))}", "--histogram=on", "run"])
    used = peer.cpu() - before
    queries, rate = re.search(r"queries: +(\d+) +\(([0-9.]+) per sec", said).groups()
    latencies = [(float(value), int(count)) for value, count in re.findall(r"^ *([0-9.]+) \|.* (\d+)$", said, re.MULTILINE)]
    return {
        "qps": float(rate), "cpu us": used / int(queries) * 1e6, "p50 us": quantile(latencies, 0.5), "p95 us": quantile(latencies, 0.95),
    }


def rows():
    """A block of rows, and how many of it are about as many rows as wanted; in packets of 16 KiB, as clients send a file."""
    row = b"1234567\t1\t0\t" + b"x" * 84 + b"\n"
    text = row * (256 * PACKET // len(row))
    parts = [text[at:at + PACKET] for at in range(0, len(text), PACKET)]
    # The number 0 was the query's and 1 the server's.
    return b"".join(packet(2 + number, part) for number, part in enumerate(parts)), round(ROWS * len(row) / len(text))


def load(house, peer, seconds):
    direct = Raw(house.server.port)
    direct.query("TRUNCATE loaded")
    block, times = rows()
    found = bulk(peer, Raw, lambda raw: raw.load(LOAD, block, times), seconds)
    direct.query("TRUNCATE loaded")
    direct.close()
    return found


def quantile(latencies, share):
    """sysbench's histogram has a step for each 1.8 %."""
    left = share * sum(count for _, count in latencies)
    for value, count in latencies:
        left -= count
        if left <= 0:
            return value * 1000
    raise RuntimeError("no latencies")


def sysbench(peer, words):
    place = ["--db-driver=mysql", "--mysql-host=127.0.0.1", f"--mysql-port={peer.port}", "--mysql-user=bench", "--mysql-db=bench"]
    tables = ["--tables=1", f"--table-size={TABLE_SIZE}", "--mysql-ssl=off"]
    ran = subprocess.run(["sysbench", *place, *tables, *words], capture_output=True, text=True)
    if ran.returncode != 0 or "FATAL" in ran.stdout:
        raise RuntimeError(f"{peer.name}: {ran.stdout}{ran.stderr}")
    return ran.stdout


if __name__ == "__main__":
    main()
