"""Where a search keeps its trials: a journal file for one machine, a database or a proxy of one for many."""

from __future__ import annotations

import importlib.util
import time
import warnings
from pathlib import Path
from typing import Any

from fdlab.errors import UserError, unknown
from fdlab.escape import without_password

JOURNAL = "journal"
JOURNAL_FILE = "journal.log"
DRIVERS = {
    "postgresql": ("postgresql+psycopg", "psycopg"),
    "mysql": ("mysql+pymysql", "pymysql"),
    "sqlite": ("sqlite", "sqlite3"),
}
"""A database's kind to SQLAlchemy's dialect with its driver, and the driver's package."""
GRPC = "grpc"
KINDS = (JOURNAL, *(f"{kind}://..." for kind in DRIVERS), f"{GRPC}://HOST:PORT")
SECONDS = 10
"""To reach a database."""
TRIES, PAUSE = 20, 0.5
"""To have the tables made, by this process or another, and seconds between two."""


def load_optuna() -> Any:
    """Import Optuna. Raises: UserError that says how to get it."""
    try:
        import optuna
    except ImportError:
        raise UserError("searching needs Optuna: pip install 'fdlab[sweep]'.") from None
    return optuna


def check(where: str) -> None:
    """Whether `where` names a storage that can be had here. Raises: UserError."""
    if where == JOURNAL:
        return
    kind, separator, rest = where.partition("://")
    if not separator or kind not in (*DRIVERS, GRPC) or not rest:
        raise unknown("sweep.storage", without_password(where), KINDS)
    if kind == GRPC:
        host, _, port = rest.rpartition(":")
        if not host or not port.isdecimal():
            raise UserError(
                f"sweep.storage={without_password(where)}: give host and port, as in grpc://node0:13000."
            )
        package = "grpc"
    else:
        package = DRIVERS[kind][1]
    if importlib.util.find_spec(package) is None:
        how = "pip install 'fdlab[sweep-database]'"
        raise UserError(f"sweep.storage={without_password(where)} needs the package {package}: {how}.")


def open_storage(where: str, folder: Path) -> Any:
    """Open Optuna's storage; `folder` is the search's. Raises: UserError, also where it cannot be reached."""
    optuna = load_optuna()
    check(where)
    if where == JOURNAL:
        folder.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(folder / JOURNAL_FILE))
        return optuna.storages.JournalStorage(backend)
    kind, _, rest = where.partition("://")
    if kind == GRPC:
        return _proxy(where, rest)
    return _database(
        where, f"{DRIVERS[kind][0]}://{rest}", {} if kind == "sqlite" else {"connect_timeout": SECONDS}
    )


def _database(where: str, address: str, arguments: dict[str, Any]) -> Any:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    optuna = load_optuna()
    # A connection a question: hours lie between two, and many workers would hold one each.
    engine = {"connect_args": arguments, "poolclass": NullPool}
    try:
        create_engine(address, **engine).connect().close()
    except (SQLAlchemyError, ValueError) as error:
        raise _unreachable(where, getattr(error, "orig", None) or error) from None
    last: Exception | None = None
    for _ in range(TRIES):
        try:
            return optuna.storages.RDBStorage(address, engine_kwargs=engine)
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            # Of several workers that make the tables of a new database at once all but one fail.
            last = error
            time.sleep(PAUSE)
    raise _unreachable(where, getattr(last, "orig", None) or last)


def _proxy(where: str, address: str) -> Any:
    import grpc

    host, _, port = address.rpartition(":")
    channel = grpc.insecure_channel(address)
    try:
        grpc.channel_ready_future(channel).result(timeout=SECONDS)
    except grpc.FutureTimeoutError:
        raise _unreachable(where, f"no answer in {SECONDS} s") from None
    finally:
        channel.close()
    optuna = load_optuna()
    with warnings.catch_warnings():
        # Optuna calls it experimental; whoever gives grpc:// has chosen it.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.storages.GrpcStorageProxy(host=host, port=int(port))


def _unreachable(where: str, reason: object) -> UserError:
    said = " ".join(str(reason).split())[:200] or type(reason).__name__
    return UserError(f"sweep.storage={without_password(where)} cannot be used: {said}.")
