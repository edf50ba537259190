"""`/metrics` for Prometheus, and `/healthz`: a plane beside the broker. Both ask the broker each time.

If the broker does not answer, `headwater_up` is 0, and is the only number. The others come from the broker's last snapshot.
"""

from starlette.responses import PlainTextResponse, Response

from headwater.client.errors import ClientError
from headwater.http.api import Api
from headwater.http.endpoints import Call, Endpoint
from headwater.http.errors import HttpError
from headwater.observability.metrics import CONTENT_TYPE, UP, prometheus_text
from headwater.planes.broker_access import BrokerAccess
from headwater.planes.counters_topic import CountersError

VERSION = "1"


def application(access: BrokerAccess) -> Api:
    """The plane `metrics`."""

    async def metrics(call: Call[None]) -> Response:
        try:
            numbers = {UP.name: 1.0, **await access.counters()}
        except (ClientError, CountersError):
            numbers = {UP.name: 0.0}
        return Response(prometheus_text(numbers), media_type=CONTENT_TYPE)

    async def healthz(call: Call[None]) -> Response:
        try:
            await access.counters()
        except (ClientError, CountersError) as error:
            raise HttpError(503, f"The broker does not answer: {error}") from error
        return PlainTextResponse("ok\n")

    endpoints = [
        Endpoint("GET", "/metrics", metrics, summary="Everything that the broker counts", media_type="text/plain"),
        Endpoint("GET", "/healthz", healthz, summary="Whether the broker answers", media_type="text/plain"),
    ]
    return Api("Headwater metrics", VERSION, endpoints, origins=access.origins)
