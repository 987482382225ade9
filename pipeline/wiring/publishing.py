"""How much may be published, as the settings say."""

from pipeline.config import Settings
from pipeline.flows.publish import PublishLimits


def publish_limits(settings: Settings) -> PublishLimits:
    """Return how many schemas may be published."""
    given = settings.schemas
    return PublishLimits(
        max_published=given.max_published,
        max_versions=given.max_versions,
        max_types_per_tenant=given.max_types_per_tenant,
        max_document_bytes=given.max_document_bytes,
    )
