"""Every subject and stream name of the blobs and the voices: those of an object bucket and of two KV buckets.

    $O.<ROOT>_BLOBS.C.<upload>        OBJ_<ROOT>_BLOBS: the chunks of one upload, in order
    $O.<ROOT>_BLOBS.M.<object>        OBJ_<ROOT>_BLOBS: the record of one blob; base64url of `<owner>/<digest>`

    $KV.<ROOT>_VOICES.<model>.<name>.<digest>   KV_<ROOT>_VOICES: the record of one voice
    <root>.voice.<model>.<name>.<digest>        republish of those, without the record

    $KV.<ROOT>_UPLOADED.<tenant>.<name>         KV_<ROOT>_UPLOADED: the record of one voice; `<name>` is a SHA-256
    <root>.uploaded.<tenant>.<name>             republish of those, without the record

`<upload>` is `<owner>=<random>`, so that the server's count of each subject is the count of each owner.
Source: NATS ADR-20, "JetStream based Object Stores".
"""

import base64
import binascii
import hashlib
import re
import secrets
from functools import cached_property
from typing import Final

import msgspec

from bus.subjects import token

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
#: No token holds it.
_JOIN: Final = "="
_UPLOAD_BYTES: Final = 11


def is_digest(text: str) -> bool:
    """Whether `text` is a SHA-256 as it is written here: 64 hexadecimal digits in lower case."""
    return _DIGEST.fullmatch(text) is not None


def new_upload(owner: str) -> str:
    """The id of a new upload of `owner`. Raises ValueError if that is not a token."""
    return f"{token(owner)}{_JOIN}{secrets.token_hex(_UPLOAD_BYTES)}"


def owner_of(upload: str) -> str:
    """The owner of an upload."""
    return upload.partition(_JOIN)[0]


class BlobNames(msgspec.Struct, frozen=True, dict=True):
    """Names of one deployment. Methods that take a name from outside raise ValueError if it is not of its form."""

    root: str

    @cached_property
    def bucket(self) -> str:
        """Object bucket of all blobs."""
        return f"{self.root.upper()}_BLOBS"

    @cached_property
    def stream(self) -> str:
        """Stream of that bucket."""
        return f"OBJ_{self.bucket}"

    @cached_property
    def all_chunks(self) -> str:
        """Filter for the chunks of all uploads."""
        return f"$O.{self.bucket}.C.>"

    @cached_property
    def all_records(self) -> str:
        """Filter for the records of all blobs."""
        return f"$O.{self.bucket}.M.>"

    def chunks(self, upload: str) -> str:
        """Subject of the chunks of one upload."""
        owner, _, rest = upload.partition(_JOIN)
        return f"$O.{self.bucket}.C.{token(owner)}{_JOIN}{token(rest)}"

    def record(self, owner: str, digest: str) -> str:
        """Subject of the record of one blob."""
        if not is_digest(digest):
            raise ValueError(f"{digest[:80]!r} is no SHA-256 of 64 hexadecimal digits in lower case")
        return f"$O.{self.bucket}.M.{base64.urlsafe_b64encode(object_name(owner, digest).encode()).decode()}"


class VoiceNames(msgspec.Struct, frozen=True, dict=True):
    """Names of the installed voices of one deployment. Methods raise ValueError for a name that is no token."""

    root: str

    @cached_property
    def bucket(self) -> str:
        """KV bucket of the records."""
        return f"{self.root.upper()}_VOICES"

    @cached_property
    def stream(self) -> str:
        """Stream of that bucket."""
        return f"KV_{self.bucket}"

    @cached_property
    def all(self) -> str:
        """Filter for all records."""
        return f"$KV.{self.bucket}.*.*.*"

    def record(self, model: str, name: str, digest: str) -> str:
        """Subject of the record of one voice."""
        return f"$KV.{self.bucket}.{token(model)}.{token(name)}.{token(digest)}"

    @cached_property
    def all_changes(self) -> str:
        """Filter for notifications that a record was changed."""
        return f"{self.root}.voice.*.*.*"

    @cached_property
    def republish(self) -> tuple[str, str]:
        """(source, destination) of the republish of changed records."""
        return self.all, f"{self.root}.voice.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}.{{{{wildcard(3)}}}}"


class UploadedNames(msgspec.Struct, frozen=True, dict=True):
    """Names of the uploaded voices of one deployment."""

    root: str

    @cached_property
    def bucket(self) -> str:
        """KV bucket of the records."""
        return f"{self.root.upper()}_UPLOADED"

    @cached_property
    def stream(self) -> str:
        """Stream of that bucket."""
        return f"KV_{self.bucket}"

    @cached_property
    def all(self) -> str:
        """Filter for all records."""
        return f"$KV.{self.bucket}.*.*"

    def record(self, tenant: str, name: str) -> str:
        """Subject of the record of the voice `name`, whatever its case. Raises ValueError if `tenant` is no token."""
        key = hashlib.sha256(name.casefold().encode()).hexdigest()
        return f"$KV.{self.bucket}.{token(tenant)}.{key}"

    @cached_property
    def all_changes(self) -> str:
        """Filter for notifications that a record was changed."""
        return f"{self.root}.uploaded.*.*"

    @cached_property
    def republish(self) -> tuple[str, str]:
        """(source, destination) of the republish of changed records."""
        return self.all, f"{self.root}.uploaded.{{{{wildcard(1)}}}}.{{{{wildcard(2)}}}}"


def object_name(owner: str, digest: str) -> str:
    """The name of a blob in its bucket."""
    return f"{token(owner)}/{digest}"


def parse_object(name: str) -> tuple[str, str]:
    """(owner, digest) of the name of a blob. Raises ValueError."""
    owner, _, digest = name.partition("/")
    if not is_digest(digest):
        raise ValueError(f"{name[:100]!r} is no name of a blob")
    return token(owner), digest


def digest_in_base64(digest: str) -> str:
    """A digest as the record of an object has it."""
    return f"SHA-256={base64.urlsafe_b64encode(binascii.unhexlify(digest)).decode()}"
