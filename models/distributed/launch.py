"""The processes started by `python -m paddle.distributed.launch`, connected by gloo on CPUs and by NCCL on GPUs."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Callable

import numpy as np
import paddle
from paddle import distributed
from threadpoolctl import threadpool_limits

from deploy.errors import UserError
from deploy.pictures.stream import cores

from .group import Group
from .watch import Watch

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

SIOCGIFADDR = 0x8915  # Linux's ioctl request for the address of a network interface


class Processes(Group):
    """The job's processes. A collective waits at most 30 s for other ranks (gloo); call `meet` before it if one may be
    later than that."""

    def __init__(self, rank: int, size: int, watch: Watch) -> None:
        super().__init__(rank, size)
        self._watch = watch

    def _gather(self, array: np.ndarray) -> list[np.ndarray]:
        found: list[paddle.Tensor] = []
        self._exchange(distributed.all_gather, found, paddle.to_tensor(array))
        return [tensor.numpy() for tensor in found]

    def _broadcast(self, array: np.ndarray, source: int) -> np.ndarray:
        tensor = paddle.to_tensor(array)
        self._exchange(distributed.broadcast, tensor, source)
        return tensor.numpy()

    def _scatter(self, arrays: Sequence[np.ndarray] | None, like: np.ndarray, source: int) -> np.ndarray:
        tensor = paddle.to_tensor(like)
        parts = [paddle.to_tensor(array) for array in arrays] if arrays is not None else None
        self._exchange(distributed.scatter, tensor, parts, source)
        return tensor.numpy()

    def meet(self) -> None:
        """Wait until all ranks have called this; the watch ends this process if another one has died."""
        self._watch.meet()

    def _exchange(self, collective: Callable[..., object], *arguments: object) -> None:
        try:
            collective(*arguments)
        except Exception as error:  # Paddle raises whatever type its C++ error has
            self._watch.broken(error)


def job_size() -> int:
    """Number of processes that the launcher has started; 1 without a launcher."""
    return int(os.environ.get("PADDLE_TRAINERS_NUM", "1"))


def check_alone(what: str) -> None:
    """Raise UserError where the launcher has started several processes, which would all do `what` to the same files."""
    if job_size() > 1:
        raise UserError(f"{what} works in one process: start it without paddle.distributed.launch")


@contextmanager
def launched(use_gpu: bool) -> Iterator[Group]:
    """Context manager that yields the processes of this job, or this process alone if there is no launcher.

    If one process fails or dies, the others end with one line. Each process uses its share of the cores (`cores`), also
    for numpy's products unless $OPENBLAS_NUM_THREADS is set.

    Raises:
        UserError: the processes do not find each other.
    """
    if job_size() < 2:
        yield Group()
        return
    if "OPENBLAS_NUM_THREADS" not in os.environ:
        threadpool_limits(cores(), user_api="blas")
    if not use_gpu:
        os.environ["PADDLE_DISTRI_BACKEND"] = "gloo"
        interface = _interface(os.environ.get("PADDLE_CURRENT_ENDPOINT", "").partition(":")[0])
        if interface:  # gloo would use the address that belongs to the host's name, which is often the loopback address
            os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    try:
        distributed.init_parallel_env()
        watch = Watch(distributed.get_rank(), job_size())
    except Exception as error:  # Paddle raises whatever type its C++ error has
        told = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"the {job_size()} processes of paddle.distributed.launch do not find each other ({told[0][:200]}): "
            "see docs/distributed.md"
        ) from error
    try:
        yield Processes(watch.rank, watch.size, watch)
    except UserError as error:
        watch.fail(f"rank {watch.rank}: {error}")
        raise
    except BaseException as error:
        watch.fail(f"rank {watch.rank} ended with {type(error).__name__}: see what it printed")
        raise
    watch.leave()


def _interface(address: str) -> str | None:
    """Return the name of the network interface that has this IPv4 address, or None."""
    if fcntl is None:
        return None
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(asked, SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has no address
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None
