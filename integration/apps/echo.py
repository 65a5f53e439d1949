"""A WSGI application that says how it reads a path. Each request is a line in the file $HITS: the number that the request
carries, the person, the handler that it was routed to, the target as it came, and the path in each way in which
applications of this kind read it; all percent-encoded, with blanks between."""

import os
import posixpath
from urllib.parse import quote, unquote_to_bytes

ROUTES = (("/admin", "admin"), ("/public/secret", "secret"), ("/public", "public"), ("/members", "members"), ("/patients", "patients"))
HITS = open(os.environ["HITS"], "ab", buffering=0)


def routed(path):
    """As frameworks do it that mount applications at prefixes."""
    for prefix, handler in ROUTES:
        if path == prefix or path.startswith(prefix + "/"):
            return handler
    return "root"


def app(environ, start_response):
    path = environ["PATH_INFO"].encode("latin-1")
    reads = [path, posixpath.normpath(path), unquote_to_bytes(path)]
    fields = [environ.get("HTTP_X_ATTACK", ""), environ.get("HTTP_REMOTE_USER", ""), routed(environ["PATH_INFO"]), environ["RAW_URI"].encode("latin-1"), *reads]
    HITS.write((" ".join(quote(f, safe="/") or "-" for f in fields) + "\n").encode())
    names = "".join("%s: %s\n" % item for item in sorted(environ.items()) if item[0].startswith("HTTP_"))
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
    return [names.encode("utf-8", "replace")]
