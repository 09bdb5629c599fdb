"""Write one line of log for everything that changes something: who asked for what, and what came of it."""

import json
import logging
from typing import Any

import grpc  # type: ignore[import-untyped]
import grpc.aio  # type: ignore[import-untyped]
from google.protobuf.json_format import MessageToDict

from recollect.errors import RemoteError
from recollect.gateway.errors import ArtifactsDown, CallError
from recollect.gateway.handlers import WrappingInterceptor, remade
from recollect.gateway.request_ids import request_id
from recollect.security.access import caller

log = logging.getLogger("recollect.audit")
log.setLevel(logging.INFO)

_AUDITED = ("/recollect_api.v1.Indexes/", "/recollect_api.v1.Models/", "/google.longrunning.Operations/")
_READING = ("List", "Verify", "GetOperation", "ListOperations", "WaitOperation")
"""Methods that change nothing; all others are written down."""


def audit(what: str, outcome: str, **facts: Any) -> None:
    """Write the line; whatever a caller sent is in it as JSON, so that it cannot begin another one."""
    log.info("%s -> %s %s", what, outcome, json.dumps(facts, sort_keys=True))


class AuditInterceptor(WrappingInterceptor):
    """Write down every call that changes something; stands inside of what turns errors into statuses."""

    def wrap(self, method: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Wrap the handlers of methods that change something."""
        if not method.startswith(_AUDITED) or method.rpartition("/")[2] in _READING:
            return handler
        what = ".".join(method.rpartition(".")[2].split("/"))

        async def written(request: Any, context: grpc.aio.ServicerContext) -> Any:
            # Asked for now: a call that has ended has no peer any more.
            who, outcome, answer = _caller(context), "CANCELLED, and may be done", None
            try:
                answer = await handler.unary_unary(request, context)
                outcome = "OK"
            except CallError as error:
                outcome = f"{error.code.name} {error.reason}"
                raise
            except RemoteError:
                outcome = f"{ArtifactsDown.code.name} {ArtifactsDown.reason}"
                raise
            except Exception:
                outcome = "INTERNAL"
                raise
            finally:
                audit(what, outcome, **who, request=_told(request), response=_told(answer))
            return answer

        return remade(handler, written)


def _caller(context: grpc.aio.ServicerContext) -> dict[str, Any]:
    """Who calls: from where, with which token, and by whose certificate, where they have one."""
    token = caller.get()
    names = context.auth_context().get("x509_common_name", ())
    return {
        "peer": context.peer(),
        "call": request_id.get(),
        **({} if token is None else {"token": token.id, "token_name": token.name}),
        **({"certificate": b", ".join(names).decode(errors="replace")} if names else {}),
    }


def _told(message: Any) -> dict[str, Any] | None:
    return None if message is None else MessageToDict(message, preserving_proto_field_name=True)
