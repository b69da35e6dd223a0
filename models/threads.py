"""Limit the threads of numpy's linear algebra."""

from threadpoolctl import threadpool_limits

one_thread = threadpool_limits.wrap(limits=1, user_api="blas")
"""Decorator: numpy's matrix products and factorisations use one thread while the function runs.

For matrices of a few hundred rows, more threads are not faster, and threads that wait spin: they use cores that
decoding and the program need. Where other processes are busy too, a factorisation can take a hundred times as long.
"""
