"""Secrets out of sight: what is printed or logged of a configuration."""

from __future__ import annotations

import re
from typing import Any

MASK = "***"

# Of librdkafka, the schema registry's client and the object stores: sasl.password, ssl.key.pem,
# ssl.key.password, basic.auth.user.info, sasl.oauthbearer.config, aws_secret_access_key, account_key …
_SECRET = re.compile(
    r"password|passphrase|secret|token(?!\.endpoint)|credential|private|key\.pem$|user\.info$|jaas"
    r"|oauthbearer\.config$|(account|access|sas|service_account|master|encryption)_key$",
    re.IGNORECASE,
)
# Paths and names, not secrets.
_HARMLESS = re.compile(r"\.(location|file|url)$|_id$", re.IGNORECASE)
_USER_INFO = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*://[^:/@\s]*):[^/\s]*(?=@)", re.IGNORECASE)
_QUERY = re.compile(r"(?P<key>[?&][\w.-]*(?:password|token|secret|sig|signature|key)=)[^&\s]*", re.IGNORECASE)


def is_secret(key: str) -> bool:
    """Whether the value of a setting of this name must not be shown."""
    return bool(_SECRET.search(key)) and not _HARMLESS.search(key)


def masked(value: Any) -> Any:
    """The same nested value with secrets replaced by ***: by their key's name, and passwords inside URLs."""
    if isinstance(value, dict):
        return {k: MASK if is_secret(str(k)) and _filled(v) else masked(v) for k, v in value.items()}
    if isinstance(value, list):
        return [masked(v) for v in value]
    return masked_text(value) if isinstance(value, str) else value


def masked_text(text: str) -> str:
    """A text whose URLs have lost their passwords."""
    return _QUERY.sub(rf"\g<key>{MASK}", _USER_INFO.sub(rf"\g<scheme>:{MASK}", text))


def _filled(value: Any) -> bool:
    return not isinstance(value, dict | list) and value not in (None, "")
