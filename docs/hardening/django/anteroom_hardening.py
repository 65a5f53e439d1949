"""Passwords of a Django project behind /hmac-service.

In settings.py:

    AUTH_USER_MODEL = "accounts.User"           # your own user model, with the mixin below
    ANTEROOM_HMAC = {
        "URL": "https://localhost:8444/hmac-service",
        "CA": "/etc/anteroom/ca.pem",
        "TOKEN_FILE": "/run/anteroom/hmac.token",
    }
    PASSWORD_HASHERS = ["django.contrib.auth.hashers.BCryptPasswordHasher", ...]   # as they were

In accounts/models.py:

    class User(HardenedPasswords, AbstractUser):
        password = models.TextField()           # Django's own has 128 characters, a record needs some 200

A record is bound to the username: a record copied to another account does not match, and an account that is
renamed needs a new password. Django's own hashers cannot do that, they do not know whose password they hash;
that is why this is a mixin of the user model.

What the password column holds:

    bcrypt$$2b$12$...                    as Django wrote it
    wrapped:$2b$12$<salt>:$anteroom$...  the same, protected: the salt, and a record over the whole hash
    $anteroom$...                        a record over the password itself
"""

import http.client
import json
import ssl
import threading
import time
import urllib.parse

from django.conf import settings

WRAPPED = "wrapped:"
PLAIN = "bcrypt$"  # Django's prefix of BCryptPasswordHasher


class Unavailable(Exception):
    """The service did not answer. It is never "wrong password": show "try again", and do not count a failure."""


_local = threading.local()


def _connection(parts):
    if getattr(_local, "connection", None) is None:
        tls = ssl.create_default_context(cafile=settings.ANTEROOM_HMAC["CA"])
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        _local.connection = http.client.HTTPSConnection(parts.hostname, parts.port, context=tls, timeout=20)
    return _local.connection


def call(operation, question, tries=10):
    """Asks the service; the answer as a dict, or Unavailable. Connections are kept, one for each thread."""
    url = urllib.parse.urlsplit(settings.ANTEROOM_HMAC["URL"])
    with open(settings.ANTEROOM_HMAC["TOKEN_FILE"], encoding="ascii") as f:
        headers = {"Authorization": "Bearer " + f.read().strip(), "Content-Type": "application/json"}
    body = json.dumps(question)
    for attempt in range(tries):
        fresh = getattr(_local, "connection", None) is None
        try:
            connection = _connection(url)
            connection.request("POST", f"{url.path}/v1/{operation}", body, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as e:
            _local.connection = None
            if fresh or attempt == tries - 1:
                raise Unavailable(f"{operation}: {e}") from None
            continue  # a kept connection that the other side has closed
        if response.status == 200:
            return json.loads(text)
        after = response.getheader("Retry-After")
        if operation != "protect" or response.status != 429 or not after:
            raise Unavailable(f"{operation}: the hmac service answered {response.status}")
        time.sleep(int(after))
    raise Unavailable(f"{operation}: too many requests")


def protect(uid, secret, context="", slow=True):
    item = {"uid": uid, "secret": secret, "context": context, "slow": slow}
    return call("protect", {"items": [item]})["items"][0]["record"]


def verify(uid, secret, record, context="", source=""):
    """(match, fresh): fresh is a better record or None."""
    question = {"uid": uid, "secret": secret, "context": context, "record": record, "source": source}
    answer = call("verify", question)
    return answer["match"] is True, answer["record"]


def _source(request):
    """The client's address: as the proxy in front says it (the last entry is its own), or the connection's."""
    if request is None:
        return ""
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").rpartition(",")[2].strip()
    return (forwarded or request.META.get("REMOTE_ADDR", ""))[:64]


def _bcrypt(password, salt):
    import bcrypt

    return bcrypt.hashpw(password.encode(), salt.encode()).decode()


class HardenedPasswords:
    """A mixin for the user model. Put it before AbstractUser."""

    def set_password(self, raw_password):
        self._password = None  # Django's own password_changed hook works with a hasher; there is none here
        self.password = protect(self.get_username(), raw_password)

    def check_password(self, raw_password, source=""):
        """True or False; the column is replaced by a better record on the way. Raises Unavailable.

        source is where the attempt comes from: wrong passwords slow down their own source, so that a stranger does
        not keep the owner out.
        """
        uid, column, fresh = self.get_username(), self.password, None
        if column.startswith(WRAPPED):
            salt, record = column[len(WRAPPED):].split(":", 1)
            match, _ = verify(uid, _bcrypt(raw_password, salt), record, "bcrypt", source)
            if match:
                fresh = protect(uid, raw_password)
        elif column.startswith(PLAIN):  # not wrapped yet
            from django.contrib.auth.hashers import check_password

            match = check_password(raw_password, column)
            if match:
                fresh = protect(uid, raw_password)
        elif column.startswith("$anteroom$"):
            match, fresh = verify(uid, raw_password, column, source=source)
        else:  # no usable password
            verify(uid, raw_password, "-", source=source)
            match = False
        if match and fresh:
            # Only when nobody changed it meanwhile.
            type(self)._default_manager.filter(pk=self.pk, password=column).update(password=fresh)
            self.password = fresh
        return match


class HardenedBackend:
    """An authentication backend: AUTHENTICATION_BACKENDS = ["....HardenedBackend"].

    Django's own ModelBackend hashes once for a name that does not exist, so that time does not tell; that goes
    through PASSWORD_HASHERS. This one asks the service instead: an unknown name costs what a known one costs.
    """

    def authenticate(self, request, username=None, password=None, **kwargs):
        from django.contrib.auth import get_user_model

        model = get_user_model()
        username = username if username is not None else kwargs.get(model.USERNAME_FIELD)
        if not username or not password:
            return None
        user = model._default_manager.filter(**{model.USERNAME_FIELD: username}).first()
        source = _source(request)
        if user is None:
            verify(username, password, "-", source=source)
            return None
        if user.check_password(password, source) and user.is_active:
            return user
        return None

    def get_user(self, user_id):
        from django.contrib.auth import get_user_model

        user = get_user_model()._default_manager.filter(pk=user_id).first()
        return user if user is not None and user.is_active else None


def wrap_table():
    """Protects all bcrypt hashes of the user table without anybody's password; how many were wrapped.

    Run it once (a data migration, a management command). It may be stopped and run again. Destroy old backups of
    the table afterwards.
    """
    from django.contrib.auth import get_user_model

    users = get_user_model()._default_manager
    done = 0
    while True:
        rows = list(users.filter(password__startswith=PLAIN)[:64])
        if not rows:
            return done
        hashes = [row.password[len(PLAIN):] for row in rows]
        items = [
            {"uid": row.get_username(), "secret": old, "context": "bcrypt", "slow": False}
            for row, old in zip(rows, hashes)
        ]
        records = call("protect", {"items": items})["items"]
        for row, old, new in zip(rows, hashes, records):
            column = WRAPPED + old[:29] + ":" + new["record"]
            done += users.filter(pk=row.pk, password=row.password).update(password=column)
