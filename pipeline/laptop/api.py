"""The API of a local stack: where it answers, as it said itself."""

from pipeline.laptop.home import Home
from pipeline.machine.processes import ProcessRef, alive

PAGE_NUMBER = "API_PAGE_NUMBER"  # the API's page for Prometheus is at metrics.prometheus_port plus this; the loader has 0
URL_FILE = "API_URL_FILE"  # in its environment: where it leaves word


def api_url(home: Home, api: ProcessRef | None) -> str | None:
    """Return the URL of the API that runs in a home; None while it does not."""
    if not alive(api):
        return None
    try:
        return home.api_url.read_text(encoding="ascii").strip() or None
    except FileNotFoundError:
        return None
