"""Finds the dialects: every module below `gateway.dialects` that defines `DIALECT`.

A dialect is one folder, or one file if it is small, and everything foreign lives there: paths, request and response
bodies, the error envelope and errors that only that API has (`GatewayError`), names of models, voices and formats,
and where a client may put its key. Conventions of a folder:

- `routes.py` (`socket.py` for a WebSocket) has the handlers and `DIALECT`. Another module of the folder either has a
  `DIALECT` of its own under the same `name`, or a tuple `ROUTES` that `routes.py` includes.
- Each handler carries `@operation(...)`, which describes it for `/openapi.json`. `is_open` serves it to callers without
  a key; `key_in` says that the key may be in the body or in a WebSocket's first message, and then the handler
  authenticates (`Authenticator.authenticate_body`, `authenticate_socket`) before it acts for the caller.
- Handlers turn a request into a `wire.Job` with `gateway.api.job_fields.build_job` and `Jobs.validate`.
- A folder imports no other dialect, except that `vllm` imports `openai`, whose speech request its messages extend.
"""

import importlib
import pkgutil

import gateway.dialects
from gateway.http.dialect import Dialect


def dialects() -> list[Dialect]:
    """Every dialect, in the order of the names of their modules."""
    prefix = f"{gateway.dialects.__name__}."
    names = sorted(module.name for module in pkgutil.walk_packages(gateway.dialects.__path__, prefix))
    modules = [importlib.import_module(name) for name in names]
    return [module.DIALECT for module in modules if hasattr(module, "DIALECT")]
