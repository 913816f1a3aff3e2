"""What the first of several processes that torchrun or srun started settles for all, before they train.

They meet at a store of torch's: torchrun's own, or, of srun, one that the first keeps.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from fdlab.config.directory import is_main_process
from fdlab.config.launch import Launch, launched
from fdlab.errors import EndedElsewhere, Failure, UserError

POLL = 0.2
"""Seconds between two looks; one that waits hears signals."""
LEAVE = 10.0
"""Seconds that the first waits for others to hear that it was refused."""
APART = 10_000
"""Of srun, between the port of training and this one: jobs beside each other have ports beside each other."""
_KEY, _HEARD = "settled", "heard"
_KEPT: list[Any] = []
"""Stores that others may still ask: of srun it goes with this process."""


def settled_by_first(cfg: Any, settle: Callable[[], Any]) -> Any:
    """What `settle` makes in every process, of a `cfg.name` that the first has settled: in the others it is
    called afterwards. Raises: EndedElsewhere in these where it was refused in the first, which says why;
    Failure where they cannot meet."""
    if (launch := launched()) is None:
        return settle()
    store = _store(launch)
    if not is_main_process():
        cfg.name = _hear(store)
        return settle()
    try:
        made = settle()
    except BaseException as error:
        # An interruption too: the others would wait for what never comes.
        status = 2 if isinstance(error, UserError) else 130 if isinstance(error, KeyboardInterrupt) else 1
        store.set(_KEY, json.dumps(status))
        _wait_until_heard(store, launch)
        raise
    store.set(_KEY, json.dumps(str(cfg.name)))
    _KEPT.append(store)
    return made


def _store(launch: Launch) -> Any:
    from torch.distributed import PrefixStore, TCPStore

    wait = timedelta(minutes=30)
    if launch.by == "torchrun":
        place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(*place, is_master=False, timeout=wait)
    else:
        from lightning.fabric.plugins.environments import SLURMEnvironment

        at = SLURMEnvironment()
        port = at.main_port + APART
        place = at.main_address, port if port < 1 << 16 else at.main_port - APART
        try:
            store = TCPStore(*place, is_master=is_main_process(), timeout=wait, wait_for_workers=False)
        except RuntimeError as error:
            raise Failure(f"the processes cannot meet at {place[0]}:{place[1]}: {error}") from None
    return PrefixStore(f"fdlab-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)


def _hear(store: Any) -> str:
    try:
        while not store.check([_KEY]):
            time.sleep(POLL)
        said = json.loads(store.get(_KEY))
        store.add(_HEARD, 1)
    except RuntimeError as error:
        raise Failure("the first process is gone before it settled where all work.") from error
    if isinstance(said, int):
        raise EndedElsewhere(said)
    return str(said)


def _wait_until_heard(store: Any, launch: Launch) -> None:
    until = time.monotonic() + LEAVE
    while store.add(_HEARD, 0) < launch.per_node * launch.nodes - 1 and time.monotonic() < until:
        time.sleep(POLL)
