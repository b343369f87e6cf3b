"""`auth` and `logout`: sessions."""

from vmwatch.panel.convention import Done, SignedIn
from vmwatch.panel.functions import ANYBODY, EVERY_ROLE, Call, Function


async def sign_in(call: Call) -> SignedIn:
    """`username`, `password`: a new session, also set as the cookie."""
    username = call.params.required("username")
    password = call.params.required("password")
    session, account = await call.panel.identity.sign_in(call.address, username, password)
    return SignedIn(session, account.name)


async def sign_out(call: Call) -> Done:
    """End the session that the call came with."""
    if call.caller is not None and call.caller.session:
        call.panel.identity.sign_out(call.caller.session)
    return Done()


FUNCTIONS = (
    Function("auth", sign_in, ANYBODY, changes=True),
    Function("logout", sign_out, EVERY_ROLE, changes=True),
)
