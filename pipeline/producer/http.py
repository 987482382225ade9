"""From a URL and a credential to a producer over HTTP."""

from collections.abc import Callable
from typing import Any

from pipeline.core.errors import ConfigProblem
from pipeline.sending.fates import BatchFate
from pipeline.sending.http_async import AsyncHttpProducer
from pipeline.sending.http_batch import HttpOptions
from pipeline.sending.http_credential import ApiKey, ClientCredentials, Credential
from pipeline.sending.http_target import Target, checked_url
from pipeline.sending.http_threaded import HttpProducer


def connect_http(
    url: str,
    *,
    api_key: str | None = None,
    client: ClientCredentials | None = None,
    on_batch: Callable[[BatchFate], None] | None = None,
    ca_file: str | None = None,
    plain_http: bool = False,
    **options: Any,
) -> HttpProducer:
    """Open a producer to an HTTP API; close it, or use it in a `with` block. Nothing is sent before the first event.

    Args:
        url: of the API, as `headrace status` shows it.
        api_key: of the tenant, with the scope `ingest`; or
        client: OAuth2 client credentials.
        on_batch: called in the sending thread with events that are settled; quick, and what it raises is only shown.
        ca_file: certificates (PEM) to trust instead of the usual ones.
        plain_http: allow `http://` to another machine, where the credential travels in the clear.
        options: fields of `HttpOptions`.

    Raises:
        ConfigProblem: the URL, the credential or an option is wrong.
    """
    from pipeline.sending.http_exchange import Exchange  # noqa: PLC0415 - httpx takes its time, and an import should not

    chosen, target, credential = _parts(url, api_key, client, options, ca_file, plain_http=plain_http)
    return HttpProducer(
        target, credential, chosen, lambda: Exchange(target, credential, chosen.lanes), on_batch
    )


def connect_http_async(
    url: str,
    *,
    api_key: str | None = None,
    client: ClientCredentials | None = None,
    on_batch: Callable[[BatchFate], None] | None = None,
    ca_file: str | None = None,
    plain_http: bool = False,
    **options: Any,
) -> AsyncHttpProducer:
    """Open a producer for an event loop; `await` its `close`, or use it in an `async with` block. Else like `connect_http`."""
    from pipeline.sending.http_exchange import AsyncExchange  # noqa: PLC0415 - as above

    chosen, target, credential = _parts(url, api_key, client, options, ca_file, plain_http=plain_http)
    return AsyncHttpProducer(
        target, credential, chosen, lambda: AsyncExchange(target, credential, chosen.lanes), on_batch
    )


def client_credentials(
    token_url: str, client_id: str, client_secret: str, scope: str = "", *, plain_http: bool = False
) -> ClientCredentials:
    """Return OAuth2 client credentials: tokens are fetched, kept, and renewed before they expire.

    Args:
        token_url: of the authorization server, as Cognito's `https://NAME.auth.REGION.amazoncognito.com/oauth2/token`.
        client_id: of this client.
        client_secret: likewise.
        scope: asked for; by default what the client has.
        plain_http: allow `http://` to another machine.

    Raises:
        ConfigProblem: one of them is no such thing.
    """
    return ClientCredentials(
        checked_url(token_url, "token_url", plain_http=plain_http), client_id, client_secret, scope
    )


def _parts(
    url: str,
    api_key: str | None,
    client: ClientCredentials | None,
    options: dict[str, Any],
    ca_file: str | None,
    *,
    plain_http: bool,
) -> tuple[HttpOptions, Target, Credential]:
    if (api_key is None) == (client is None):
        raise ConfigProblem("give one credential: api_key, or client (client_credentials(...))")
    chosen = HttpOptions(**options)
    credential: Credential = ApiKey(api_key) if client is None else client  # type: ignore[arg-type]
    return chosen, Target(url, chosen.timeout_seconds, ca_file, plain_http=plain_http), credential
