"""Count what JAX compiles."""

import contextlib

import jax.monitoring

BACKEND_COMPILE = "/jax/core/compile/backend_compile_duration"


@contextlib.contextmanager
def count_compilations():
    """Count calls of the compiler below, as JAX itself reports them."""
    counter = [0]

    def listen(event, *_, **__):
        counter[0] += event == BACKEND_COMPILE

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield counter
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
