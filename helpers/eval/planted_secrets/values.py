"""Values and names of planted secrets and of their look-alikes.

Secrets are made as people and tools make them: by Django's rule for a SECRET_KEY, by the functions of the
`secrets` module, by password managers and by habit (word, digits, symbol). No pattern of a detector is used.
Words are dealt out to three splits, so that none stands in two of them; each split has names of its own.
"""

from __future__ import annotations

import base64
import random
import string
import uuid

DJANGO = "abcdefghijklmnopqrstuvwxyz0123456789!@#$%^&*(-_=+)"  # django.core.management.utils
ALPHANUMERIC = string.ascii_letters + string.digits
WORDS = [
    "anchor", "basket", "candle", "dragon", "ember", "falcon", "garden", "harbor", "island", "jacket",
    "kettle", "lantern", "magnet", "needle", "orchid", "pepper", "quartz", "ribbon", "saddle", "timber",
    "umbrella", "violet", "walnut", "yellow", "zephyr", "bridge", "copper", "desert", "engine", "forest",
    "glacier", "hammer", "icicle", "jungle", "kitten", "ladder", "marble", "nickel", "oyster", "pirate",
    "quiver", "rocket", "silver", "thunder", "uncle", "velvet", "window", "yonder", "almond", "butter",
    "circus", "donkey", "eleven", "fossil", "ginger", "hockey", "insect", "jigsaw", "kennel", "lemon",
]  # fmt: skip
PASSWORD_NAMES = (
    "password", "db_password", "passwd", "admin_password", "smtp_password", "user_pwd", "passphrase",
    "mysql_password", "redis_password", "root_passwd", "ldap_bind_password", "keystore_password",
    "proxy_password", "ftp_pass", "default_password", "wifi_passphrase",
)  # fmt: skip
SECRET_NAMES = (
    "secret_key", "api_key", "client_secret", "access_token", "auth_token", "private_key", "signing_key",
    "aws_secret_access_key", "encryption_key", "jwt_secret", "webhook_secret", "refresh_token",
    "stripe_api_key", "session_secret", "bot_token", "master_key", "github_token", "app_secret",
    "consumer_secret", "hmac_key", "bearer_token", "account_key", "secret", "django_secret_key",
)  # fmt: skip
PROSE = (
    "Enter your password", "Passwords must match", "The token has expired", "Invalid API key given",
    "Choose a strong password of 12 characters", "Your secret is safe with us", "Token is required",
    "Please enter the access token", "Forgot your password?", "Password (at least 8 characters)",
    "This key was revoked in 2021", "No credentials were provided.",
)  # fmt: skip


TEST_WORDS = [
    "acorn", "badger", "cactus", "dolphin", "eagle", "feather", "goblin", "hazel", "igloo", "juniper",
    "koala", "lobster", "meadow", "napkin", "otter", "parsley", "quilt", "raven", "salmon", "teapot",
    "urchin", "vulture", "wagon", "yogurt", "zebra", "bamboo", "canyon", "dagger", "emerald", "flannel",
]  # fmt: skip
TEST_PASSWORD_NAMES = (
    "password", "database_password", "login_password", "pgpassword", "user_passwd", "vault_passphrase",
    "master_password", "imap_password", "pwd", "new_password", "password_prod", "sudo_password",
)  # fmt: skip
TEST_SECRET_NAMES = (
    "secret_key", "apikey", "google_api_key", "oauth_client_secret", "slack_token", "personal_access_token",
    "storage_account_key", "jwt_signing_key", "token_secret", "encryption_key", "api_secret", "secret_token",
    "openai_api_key", "service_key", "shared_secret", "id_token",
)  # fmt: skip


DEV_WORDS = [
    "apricot", "beacon", "cobalt", "dahlia", "elbow", "fiddle", "gravel", "hornet", "ivory", "jasmine",
    "kernel", "lagoon", "mango", "nutmeg", "onion", "pelican", "quarry", "radish", "sparrow", "tulip",
    "utensil", "vinegar", "willow", "yacht", "zipper", "bishop", "carpet", "drizzle", "empire", "fabric",
]  # fmt: skip
DEV_PASSWORD_NAMES = (
    "password", "db_passwd", "sa_password", "mail_password", "vnc_password", "zip_password", "ssh_passphrase",
    "gpg_passphrase", "kafka_password", "service_pwd", "broker_password", "postgres_password", "sftp_pass",
    "admin_pwd", "user_password", "pgp_passphrase", "basic_auth_password", "wpa_passphrase",
)  # fmt: skip
DEV_SECRET_NAMES = (
    "secret_key", "api_key", "auth_token", "client_secret", "signing_secret", "cookie_secret", "app_key",
    "access_key", "deploy_token", "hf_token", "npm_token", "gitlab_token", "stripe_secret_key", "session_key",
    "sendgrid_api_key", "maps_api_key", "encryption_key", "license_key", "csrf_secret", "webhook_token",
    "api_token", "oauth_token", "service_account_key", "sas_token", "hmac_secret", "shared_key",
)  # fmt: skip
TUNE, DEV, TEST = "tune", "dev", "test"
SPLITS = (TUNE, DEV, TEST)
OF_SPLIT = {  # words, names of passwords, names of other secrets
    TUNE: (WORDS, PASSWORD_NAMES, SECRET_NAMES),
    DEV: (DEV_WORDS, DEV_PASSWORD_NAMES, DEV_SECRET_NAMES),
    TEST: (TEST_WORDS, TEST_PASSWORD_NAMES, TEST_SECRET_NAMES),
}


class Source:
    """Random values of one split: `tune` or `dev`, whose items may be looked at, or `test`."""

    def __init__(self, split: str, seed: int) -> None:
        """Seed the draws.

        Raises:
            ValueError: if there is no such split.
        """
        if split not in SPLITS:
            raise ValueError(f"the split is {', '.join(SPLITS[:-1])} or {SPLITS[-1]}, not {split!r}")
        self.random = random.Random(f"planted secrets {split} {seed}")
        self._words, self._password_names, self._secret_names = OF_SPLIT[split]

    def word(self) -> str:
        """Return a word of this split."""
        return self.random.choice(self._words)

    def words(self, n: int, joint: str) -> str:
        """Return `n` words of this split, joined."""
        return joint.join(self.word() for _ in range(n))

    def characters(self, alphabet: str, n: int) -> str:
        """Return `n` characters of an alphabet."""
        return "".join(self.random.choices(alphabet, k=n))

    def uuid(self) -> str:
        """Return a random UUID."""
        return str(uuid.UUID(bytes=self.random.randbytes(16), version=4))

    def name(self, strong: bool) -> str:
        """Return a secret's name in snake case; of a password if `strong`."""
        return self.random.choice(self._password_names if strong else self._secret_names)

    def secret(self) -> tuple[str, str, bool]:
        """Return a rule's name, a value made by it, and whether people make passwords so."""
        draw = self.random
        makers = {
            "Django SECRET_KEY": lambda: self.characters(DJANGO, 50),
            "django-insecure": lambda: "django-insecure-" + self.characters(DJANGO, 50),
            "token_urlsafe": lambda: self._base64(draw.randint(16, 48), b"-_").rstrip("="),
            "token_hex": lambda: self.random.randbytes(draw.choice((16, 20, 24, 32))).hex(),
            "base64": lambda: self._base64(draw.randint(16, 40), b"+/"),
            "alphanumeric": lambda: self.characters(ALPHANUMERIC, draw.randint(16, 40)),
            "prefixed": lambda: self.word()[:3] + "_" + self.characters(ALPHANUMERIC, draw.randint(20, 32)),
            "UUID": self.uuid,
            "ten characters": lambda: self._with_digit(ALPHANUMERIC, 10),
            "ten with symbols": lambda: self._with_digit(ALPHANUMERIC + "!@#$%^&*-_=+", 10),
            "printable": lambda: self._with_digit(ALPHANUMERIC + string.punctuation, draw.randint(12, 24)),
            "word and digits": lambda: self._worded(draw.choice(("", *"!?#$@.*"))),
            "leet": lambda: self._leet() + draw.choice("!#$%&*+") + str(draw.randint(1, 999)),
            "two words": lambda: self.word() + draw.choice("-_.+#") + self._worded(""),
            "diceware": lambda: self.words(4, draw.choice(("-", " ", "."))),
        }  # fmt: skip
        rule = draw.choice(list(makers))
        is_password = list(makers).index(rule) >= list(makers).index("ten characters")
        return rule, makers[rule](), is_password

    def _base64(self, n: int, last_two: bytes) -> str:
        return base64.b64encode(self.random.randbytes(n), last_two).decode()

    def _worded(self, end: str) -> str:
        return self.word().title() + str(self.random.randint(10, 9999)) + end

    def _with_digit(self, alphabet: str, n: int) -> str:
        value = self.characters(alphabet, n - 2) + self.random.choice(string.ascii_letters)
        at = self.random.randrange(len(value) + 1)
        return value[:at] + self.random.choice(string.digits) + value[at:]

    def _leet(self) -> str:
        word = self.words(1, "")
        swapped = word.translate(str.maketrans("aeiost", "431057"))
        return (swapped if swapped != word else word + "7").capitalize()
