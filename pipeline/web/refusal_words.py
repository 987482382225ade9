"""What each code of a refused event means, in words for a caller who has nothing but the server's page `/docs`."""

from pipeline.core.event import RefusalCode

MEANINGS = {
    RefusalCode.BAD_AGGREGATE: "A KPL aggregate that is damaged, or one inside another.",
    RefusalCode.BAD_GZIP: "A gzip that is damaged, cut, nested, or inflates beyond the limits.",
    RefusalCode.TOO_MANY_EVENTS: "A record of the stream with more events than are taken.",
    RefusalCode.TOO_MUCH_PACKED: "What one record of the stream packs comes to more than is taken.",
    RefusalCode.NOT_JSON: "Not JSON by RFC 8259, not UTF-8, or with a number or text that nothing can hold: 1e999, half a surrogate pair.",
    RefusalCode.TOO_LARGE: "The event has more bytes than are taken; the message has the limit.",
    RefusalCode.TOO_DEEP: "Nested deeper than is taken; the message has the limit.",
    RefusalCode.TOO_MANY_KEYS: "More keys over all objects, or items over all arrays, than are taken.",
    RefusalCode.STRING_TOO_LONG: "A string or key is longer than is taken.",
    RefusalCode.NUMBER_OUT_OF_RANGE: "An integer outside 64 bits: send it as a string.",
    RefusalCode.DUPLICATE_KEY: "A key of the envelope is given twice.",
    RefusalCode.BAD_ENVELOPE: "A field of the envelope is missing, unknown, or of the wrong type or form.",
    RefusalCode.UNSUPPORTED_CONTENT: "A CloudEvent whose data is not JSON.",
    RefusalCode.UNKNOWN_TENANT: "The tenant is not known: the operator adds it.",
    RefusalCode.UNKNOWN_TYPE: "No schema of this event type: GET /v1/schemas lists them.",
    RefusalCode.UNKNOWN_VERSION: "No such version of the schema: GET /v1/schemas lists them.",
    RefusalCode.SCHEMA_MISMATCH: "`data` is against the schema: GET /v1/schemas/{type}/{version} shows it.",
    RefusalCode.TIME_IN_FUTURE: "The event time is too far after the arrival: look at the sender's clock.",
    RefusalCode.KILLS_WORKER: "A process that takes this record in does not survive it: tell the operator.",
}
