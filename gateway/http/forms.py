"""Forms with a file, `multipart/form-data`: read piece by piece, within limits."""

from typing import Final

import msgspec
from aiohttp import BodyPartReader, web
from aiohttp.http_exceptions import BadHttpMessage

from bus.errors import Invalid, Malformed, TooLarge
from bus.params import short
from gateway.http.connection import Connection
from gateway.limits.buffers import Buffer

#: Exceptions of aiohttp for a malformed form, beside its HTTP exceptions.
FORM_ERRORS: Final = (ValueError, LookupError, RuntimeError, AssertionError, BadHttpMessage)
_KIND: Final = "multipart/form-data"
_MAX_PARTS: Final = 32
_MAX_FIELD_BYTES: Final = 16 << 10
_PIECE_BYTES: Final = 64 << 10


class Upload(msgspec.Struct, frozen=True):
    """The file of a form."""

    data: bytes
    #: As the client says; "" if it says nothing.
    mime_type: str


class Form(msgspec.Struct, frozen=True):
    """A form with one file, read whole."""

    fields: dict[str, str]
    file: Upload


async def read_form(request: web.Request, buffer: Buffer, file_field: str, max_bytes: int) -> Form:
    """The form in the body. `file_field`: name of its file, to which clients may add `[]`. `max_bytes`: of the file.

    The memory is held in `buffer`. Raises Malformed, Invalid for too many fields, and unless there is one file;
    TooLarge; and HTTPUnsupportedMediaType for a body that is no such form.
    """
    if request.content_type != _KIND:
        raise web.HTTPUnsupportedMediaType(reason=f"{short(request.content_type)} is not {_KIND}")
    if isinstance(request.protocol, Connection):
        request.protocol.stream_body()
    try:
        return await _read(request, buffer, file_field, max_bytes)
    except web.HTTPException:
        raise
    except FORM_ERRORS as error:
        raise Malformed(f"the body is no {_KIND}: {short(str(error))}") from error


async def _read(request: web.Request, buffer: Buffer, file_field: str, max_bytes: int) -> Form:
    fields: dict[str, str] = {}
    file = None
    num_parts = 0
    async for part in await request.multipart():
        num_parts += 1
        if num_parts > _MAX_PARTS:
            raise Invalid(f"body: has more than {_MAX_PARTS} fields", "body")
        if not isinstance(part, BodyPartReader) or not part.name:
            raise Malformed(f"the body is no {_KIND}: a part has no name")
        name = part.name.removesuffix("[]")
        if name != file_field:
            fields[name] = (await _content(part, buffer, name, _MAX_FIELD_BYTES)).decode()
            continue
        if file is not None:
            raise Invalid(f"{name}: is a second file; one clip makes a voice", name)
        data = await _content(part, buffer, name, max_bytes)
        file = Upload(data, part.headers.get("Content-Type", ""))
    if file is None:
        raise Invalid(f"{file_field}: is required, a file", file_field)
    return Form(fields, file)


async def _content(part: BodyPartReader, buffer: Buffer, name: str, max_bytes: int) -> bytes:
    content = bytearray()
    while piece := await part.read_chunk(_PIECE_BYTES):
        if len(content) + len(piece) > max_bytes:
            raise TooLarge(f"{short(name)}: has more than {max_bytes} bytes", short(name))
        await buffer.grow(len(piece))
        content += piece
    return bytes(content)
