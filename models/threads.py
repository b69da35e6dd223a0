"""Limit the threads of numpy's linear algebra."""

from threadpoolctl import threadpool_limits

one_thread = threadpool_limits.wrap(limits=1, user_api="blas")
"""Decorator: numpy's matrix products and factorisations use one thread while the function runs.

For matrices of a few hundred rows more threads gain nothing, and waiting ones spin: on cores that decoding and the
program need, and, where other processes are busy too, for so long that a factorisation takes a hundred times as long.
"""
