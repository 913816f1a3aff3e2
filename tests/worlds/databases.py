"""Servers that keep a search's trials, started for a test: PostgreSQL, MariaDB, Optuna's proxy of one."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

PROXY = """
import sys, optuna
from pathlib import Path
from fdlab.sweeps.storage import open_storage
storage = open_storage(sys.argv[1], Path())
optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=int(sys.argv[2]))
"""


@contextmanager
def postgresql() -> Iterator[str]:
    """Its address."""
    pytest.importorskip("psycopg")
    found = shutil.which("initdb")
    where = (
        Path(found).resolve().parent
        if found
        else max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
    )
    if where is None:
        pytest.skip("PostgreSQL is not installed")
    with _home("postgres") as (folder, user):

        def run(program: str, *words: str) -> None:
            command = [str(where / program), *words]
            done = subprocess.run(command, capture_output=True, text=True, user=user, cwd=folder)
            assert done.returncode == 0, done.stdout + done.stderr

        run("initdb", "-D", "data", "-A", "trust", "-U", "fdlab", "--no-sync")
        port = free_port()
        options = f"-p {port} -k {folder} -c fsync=off -c listen_addresses=127.0.0.1"
        run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")
        try:
            yield f"postgresql://fdlab@127.0.0.1:{port}/postgres"
        finally:
            run("pg_ctl", "-D", "data", "-m", "immediate", "stop")


@contextmanager
def mysql() -> Iterator[str]:
    """Its address."""
    pytest.importorskip("pymysql")
    server, install = shutil.which("mariadbd"), shutil.which("mariadb-install-db")
    if server is None or install is None:
        pytest.skip("MariaDB is not installed")
    with _home("mysql") as (folder, user):
        port = free_port()
        shared = ["--no-defaults", f"--datadir={folder}/data"]
        made = [install, *shared, "--auth-root-authentication-method=normal", "--skip-test-db"]
        subprocess.run(made, check=True, capture_output=True, user=user, cwd=folder)
        options = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder}/socket"]
        options += [
            f"--pid-file={folder}/pid",
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-doublewrite=0",
        ]
        with _running([server, *shared, *options], port, user):
            import pymysql

            with pymysql.connect(host="127.0.0.1", port=port, user="root") as connection:
                connection.cursor().execute("CREATE DATABASE searches")
            yield f"mysql://root@127.0.0.1:{port}/searches"


@contextmanager
def grpc() -> Iterator[str]:
    """The proxy's address, in front of a PostgreSQL."""
    pytest.importorskip("grpc")
    with postgresql() as behind:
        port = free_port()
        with _running([sys.executable, "-c", PROXY, behind, str(port)], port, None):
            yield f"grpc://127.0.0.1:{port}"


SERVERS: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "postgresql": postgresql,
    "mysql": mysql,
    "grpc": grpc,
}


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextmanager
def _home(name: str) -> Iterator[tuple[str, str | None]]:
    """A folder, and who has to run a server that refuses to run as root."""
    user = None
    if os.geteuid() == 0:
        user = next((one.pw_name for one in pwd.getpwall() if one.pw_name in (name, "nobody")), None)
        if user is None:
            pytest.skip("a database does not run as root")
    # Not below pytest's folders, which nobody else may enter.
    with tempfile.TemporaryDirectory() as folder:
        if user is not None:
            shutil.chown(folder, user)
        yield folder, user


@contextmanager
def _running(command: list[str], port: int, user: str | None) -> Iterator[None]:
    """A server that listens."""
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, user=user, stdout=log, stderr=subprocess.STDOUT) as server,
    ):
        try:
            deadline = time.monotonic() + 60
            while not _listens(port):
                if server.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    raise AssertionError(log.read().decode()[-2000:])
                time.sleep(0.1)
            yield
        finally:
            server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0
