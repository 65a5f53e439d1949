from django.contrib.auth.models import AbstractUser
from django.db import models

from anteroom_hardening import HardenedPasswords


class User(HardenedPasswords, AbstractUser):
    password = models.TextField()
