"""The recipe on a table of three people, run by a test against the real service."""

import os

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="not used here",
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "accounts"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    AUTH_USER_MODEL="accounts.User",
    AUTHENTICATION_BACKENDS=["anteroom_hardening.HardenedBackend"],
    PASSWORD_HASHERS=["django.contrib.auth.hashers.BCryptPasswordHasher"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    ANTEROOM_HMAC={"URL": os.environ["HMAC_URL"], "CA": os.environ["HMAC_CA"], "TOKEN_FILE": os.environ["HMAC_TOKEN_FILE"]},
)


django.setup()

from accounts.models import User  # noqa: E402
from anteroom_hardening import wrap_table  # noqa: E402
from django.contrib.auth import authenticate  # noqa: E402
from django.contrib.auth.hashers import make_password  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpRequest  # noqa: E402


with connection.schema_editor() as editor:
    for model in django.apps.apps.get_models():
        editor.create_model(model)

for name in ("alice", "bob", "carol"):
    User.objects.create(username=name, password=make_password(name + "'s old password"))

print("wrapped:", wrap_table())
wrapped_alice = User.objects.get(username="alice").password


def say(what, username, password):
    user = authenticate(HttpRequest(), username=username, password=password)
    print(what + ":", "yes" if user else "no")


say("wrong password", "alice", "a guess")
say("right password", "alice", "alice's old password")
say("fresh record", "alice", "alice's old password")
assert User.objects.get(username="alice").password.startswith("$anteroom$")
User.objects.filter(username="bob").update(password=User.objects.get(username="alice").password)
say("bob with alice's record", "bob", "alice's old password")
User.objects.filter(username="bob").update(password=wrapped_alice)
say("bob with alice's wrapped hash", "bob", "alice's old password")
say("nobody", "mallory", "a guess")

dave = User(username="dave")
dave.set_password("a new account's password")
dave.save()
assert authenticate(HttpRequest(), username="dave", password="a new account's password") == dave
