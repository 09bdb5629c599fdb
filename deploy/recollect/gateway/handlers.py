"""How gRPC's handlers are taken apart and put together again by what stands around every call."""

import grpc  # type: ignore[import-untyped]

HANDLERS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
"""Whether requests and answers are streams → where a handler has its behaviour, and how one is made."""
