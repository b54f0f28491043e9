"""A mail server for tests: TLS, a password, and recipients that are refused.

Prints that it is ready, then each message as a line of JSON. The line "take" on standard input lets it take what is for
later@ as well, any other ends it."""

import asyncio, json, ssl, sys

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

certificate, key, tls, port = sys.argv[1:5]
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(certificate, key)


class Handler:
    takes_all = False

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 5.1.1 there is no such user; you said sesame"
        if address.startswith("later@") and not self.takes_all:
            return "451 4.7.1 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        said = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            # A server that speaks TLS from the beginning has nobody without, and does not note it.
            "tls": implicit or session.ssl is not None,
            "user": session.auth_data.decode() if session.auth_data else None,
            "content": envelope.content.decode(),
        }
        print(json.dumps(said), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = data.login == b"batch" and data.password == b"sesame"
    return AuthResult(success=good, handled=False, auth_data=data.login if good else None)


implicit = tls == "TLS"
handler = Handler()
controller = Controller(
    handler,
    hostname="127.0.0.1",
    port=int(port),
    ssl_context=context if implicit else None,
    tls_context=None if implicit else context,
    require_starttls=not implicit,
    authenticator=authenticate,
    auth_required=True,
    auth_require_tls=not implicit,
)
controller.start()
print("ready", flush=True)
while sys.stdin.readline() == "take\n":
    handler.takes_all = True
controller.stop()
