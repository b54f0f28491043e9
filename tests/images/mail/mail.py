"""A mail server that keeps what it gets in its log: STARTTLS, a user and a password, port 587.

The certificate and its key are in /tls; USERNAME and PASSWORD say who may send."""

import os, signal, ssl

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain("/tls/tls.crt", "/tls/tls.key")


class Handler:
    async def handle_DATA(self, server, session, envelope):
        print(envelope.content.decode().replace("\r\n", "\n"), flush=True)
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    known = (os.environ["USERNAME"].encode(), os.environ["PASSWORD"].encode())
    return AuthResult(success=(data.login, data.password) == known, handled=False)


controller = Controller(
    Handler(),
    hostname="0.0.0.0",
    port=587,
    tls_context=context,
    require_starttls=True,
    authenticator=authenticate,
    auth_required=True,
)
controller.start()
print("listens on port 587", flush=True)
signal.sigwait({signal.SIGTERM, signal.SIGINT})
