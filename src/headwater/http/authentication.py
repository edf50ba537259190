"""Authenticates users with HTTP's Basic (RFC 7617) or Bearer (RFC 6750) scheme; a function of the caller checks credentials.

A server has one scheme or none. A request with missing or wrong credentials is answered with 401 and the scheme; the answer
never says whether the user or the password was wrong. The duration of a check must not depend on how much of a secret is
right: compare with `hmac.compare_digest`, or let the broker check.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Protocol

from headwater.http.errors import HttpError

REALM = "headwater"


class Authentication(Protocol):
    """One scheme. `scheme` is its name in OpenAPI, in lower case."""

    scheme: str

    async def authenticate(self, authorization: str | None) -> str:
        """The user that a request's Authorization header proves. Raises HttpError with 401."""
        ...


class Basic:
    """User and password. `check` returns whether they belong together; it may ask another system."""

    scheme = "basic"

    def __init__(self, check: Callable[[str, str], Awaitable[bool]]) -> None:
        self.check = check

    async def authenticate(self, authorization: str | None) -> str:
        token = credentials(authorization, "Basic")
        try:
            user, colon, password = base64.b64decode(token, validate=True).decode().partition(":")
        except (binascii.Error, ValueError) as error:
            raise unauthorized_error("Basic", "The credentials are not base64 of USER:PASSWORD in UTF-8.") from error
        if not colon or not await self.check(user, password):
            raise unauthorized_error("Basic", "The user or the password is wrong.")
        return user


class Bearer:
    """A token. `find_user` returns the user to whom it was issued, or None."""

    scheme = "bearer"

    def __init__(self, find_user: Callable[[str], Awaitable[str | None]]) -> None:
        self.find_user = find_user

    async def authenticate(self, authorization: str | None) -> str:
        user = await self.find_user(credentials(authorization, "Bearer"))
        if user is None:
            raise unauthorized_error("Bearer", "The token is not valid.")
        return user


def credentials(authorization: str | None, scheme: str) -> str:
    """The part after the scheme in an Authorization header. Raises HttpError with 401 for another scheme, or none."""
    found, _, token = (authorization or "").partition(" ")
    if found.lower() != scheme.lower() or not token.strip():
        raise unauthorized_error(scheme, f"Log in with HTTP {scheme} authentication.")
    return token.strip()


def unauthorized_error(scheme: str, message: str) -> HttpError:
    charset = ', charset="UTF-8"' if scheme == "Basic" else ""
    return HttpError(401, message, headers={"WWW-Authenticate": f'{scheme} realm="{REALM}"{charset}'})
