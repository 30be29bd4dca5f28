"""A throwaway server and what stands before it: Sluice and its peers, each as near to its defaults as a fair comparison allows.

Invariant: everything lives in one temporary folder and ends with this process; nothing that was running before is touched.
"""

import os
import pwd
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEBIAN_BIN = Path("/usr/lib/postgresql/15/bin")
MYSQL = ROOT / "target/tools/mysql"
AS_ROOT = ["--user=root"] if os.getuid() == 0 else []
TICKS = os.sysconf("SC_CLK_TCK")
PATH = os.environ["PATH"] + ":/usr/sbin"
# Above the 5,000 idle sessions that are held.
SESSIONS_MAX = 6000
DURABLE = {"innodb-flush-log-at-trx-commit": 1, "innodb-log-file-size": "1G"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def ends_by(process):
    """PostgreSQL waits for its clients at SIGTERM; who does not care for SIGINT, may have been started with it ignored."""
    return signal.SIGINT if any("postgres" in word for word in process.args) else signal.SIGTERM


class Peer:
    """A program that takes connections, and what it costs."""

    def __init__(self, name, port, process):
        self.name, self.port, self.process = name, port, process

    def cpu(self):
        """Seconds of processor time, user and system, all threads; the system counts them by the nanosecond and shows 10 ms."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident(self):
        """KiB."""
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError(f"{self.name} has ended")


class House:
    """The folder, the server and the peers; a context manager that ends them all."""

    def __init__(self, sluice):
        self.sluice = Path(sluice).resolve()
        self.folder = Path(tempfile.mkdtemp(prefix="sluice-bench-"))
        self.processes = []
        # For the idle sessions, here and in all that is started.
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)

    @cached_property
    def as_postgres(self):
        """PostgreSQL's programs and PgBouncer refuse to run as root: what makes them the account postgres, which then owns the folder."""
        if os.getuid() != 0:
            return []
        account = pwd.getpwnam("postgres")
        os.chown(self.folder, account.pw_uid, account.pw_gid)
        return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(ends_by(process))
        for process in reversed(self.processes):
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, name, port, command, folder=None):
        log = open(self.folder / f"{name}.log", "ab")
        command = [str(word) for word in command]
        environment = {**os.environ, "PATH": PATH}
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder or self.folder, env=environment)
        self.processes.append(process)
        deadline = time.monotonic() + 60
        while True:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} did not start:\n" + (self.folder / f"{name}.log").read_text())
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return Peer(name, port, process)
            except OSError:
                time.sleep(0.02)

    def stop(self, peer):
        peer.process.send_signal(ends_by(peer.process))
        peer.process.wait(20)
        self.processes.remove(peer.process)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def postgres(self, durable=False):
        data, port = self.folder / "data", free_port()
        initdb = [DEBIAN_BIN / "initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        subprocess.run([*self.as_postgres, *initdb, "--pgdata", data], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": self.folder,
            "max_connections": 200,
            "shared_buffers": "256MB",
            # The disk is not what is measured.
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_wal_size": "8GB",
            "autovacuum": "off",
            "ssl": "off",
        }
        if durable:
            settings |= {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return self.start("postgres", port, [*self.as_postgres, DEBIAN_BIN / "postgres", "-D", data, *options])

    def mariadb(self, durable=False):
        data = self.folder / "data"
        install = ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run([*install, f"--datadir={data}", *AS_ROOT], check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PATH": PATH})
        return self.start_my(["mariadbd", "--no-defaults", *AS_ROOT], data, "mariadb", DURABLE if durable else {})

    def mysql(self, durable=False):
        data = self.folder / "data"
        initialize = [MYSQL / "mysqld", "--initialize-insecure", *AS_ROOT, f"--datadir={data}"]
        subprocess.run([str(word) for word in initialize], check=True, capture_output=True)
        return self.start_my([MYSQL / "mysqld", *AS_ROOT], data, "mysql", {"mysqlx": "OFF", **(DURABLE if durable else {})})

    def start_my(self, program, data, name, more):
        port = free_port()
        settings = {
            "datadir": data,
            "socket": self.folder / "my.sock",
            "pid-file": self.folder / "my.pid",
            "bind-address": "127.0.0.1",
            "port": port,
            "max-connections": 500,
            "innodb-buffer-pool-size": "256M",
            "local-infile": "ON",
            # Neither the disk nor a log for replicas is what is measured.
            "innodb-flush-log-at-trx-commit": 0,
            "skip-log-bin": None,
            **more,
        }
        words = [f"--{key}" if value is None else f"--{key}={value}" for key, value in settings.items()]
        return self.start(name, port, [*program, *words])

    def start_sluice(self, protocol, upstream, name="sluice", more=""):
        port, folder = free_port(), self.folder / f"{name}-files"
        folder.mkdir()
        config = folder / "sluice.toml"
        # Everything at its default (enforce, standard, record on, metrics on) but for the number of sessions.
        config.write_text(f"""
[[listener]]
name = "bench"
protocol = "{protocol}"
listen = "127.0.0.1:{port}"
upstream = "127.0.0.1:{upstream}"
upstream_tls = "disable"
[sessions]
max_sessions = {SESSIONS_MAX}
[admin]
listen = "127.0.0.1:{free_port()}"
[log]
level = "warn"
{more}""")
        return self.start(name, port, [self.sluice, "run", "--config", config], folder=folder)

    def start_pgbouncer(self, upstream):
        port = free_port()
        users = self.write("users.txt", '"postgres" ""\n')
        config = self.write("pgbouncer.ini", f"""
[databases]
* = host=127.0.0.1 port={upstream}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {users}
pool_mode = session
max_client_conn = {SESSIONS_MAX}
default_pool_size = {SESSIONS_MAX}
ignore_startup_parameters = extra_float_digits
log_connections = 0
log_disconnections = 0
""")
        return self.start("pgbouncer", port, [*self.as_postgres, "pgbouncer", config])

    def start_haproxy(self, upstream):
        port = free_port()
        config = self.write("haproxy.cfg", f"""
global
    maxconn {SESSIONS_MAX}
    nbthread {os.cpu_count()}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen bench
    bind 127.0.0.1:{port}
    server upstream 127.0.0.1:{upstream}
""")
        return self.start("haproxy", port, ["haproxy", "-db", "-f", config])

    def start_router(self, upstream):
        """MySQL Router as a plain way to one server. It costs the same with TLS passed through and with none offered (tried)."""
        port = free_port()
        plugins = next((MYSQL / "root").glob("**/mysqlrouter/**/routing.so")).parent
        config = self.write("router.conf", f"""
[DEFAULT]
plugin_folder = {plugins}
logging_folder = {self.folder}
runtime_folder = {self.folder}
data_folder = {self.folder}
max_total_connections = {SESSIONS_MAX}
[logger]
level = WARNING
[routing:bench]
protocol = classic
bind_address = 127.0.0.1
bind_port = {port}
destinations = 127.0.0.1:{upstream}
routing_strategy = first-available
client_ssl_mode = PASSTHROUGH
server_ssl_mode = AS_CLIENT
""")
        return self.start("router", port, [MYSQL / "mysqlrouter", "-c", config])
