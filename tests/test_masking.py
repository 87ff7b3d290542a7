"""Secrets: every kind is found and replaced, the code still parses, and ordinary code stays unchanged."""

from __future__ import annotations

import ast
import base64
import json
import re
import time
from pathlib import Path

import pytest

from helpers.code.functions import extract_functions
from helpers.code.literals import lexemes
from helpers.code.secrets import MASK, holds_secret, mask_secrets, placeholder
from helpers.data.card.facts import corpus_facts
from helpers.data.card.page import render_data_card
from helpers.data.corpus import corpus_warnings, load_corpus, secret_counts
from helpers.data.leaks import check_splits
from helpers.data.splits import split_corpus
from helpers.data.tasks.suite_cases import TestSuite
from helpers.eval.planted_secrets.secret_check import planted_secrets
from helpers.settings import CorpusSettings

# Planted values are assembled here, so that this file itself contains no secret.
LETTERS = "Qz7Rk2Vw9Xb4Nm6Tc1Jh8Ld3Fs5Gp0YaEeUuIiOo"
KEY_LINE = (LETTERS * 2)[:64]


def jwt() -> str:
    parts = (b'{"alg":"HS256","typ":"JWT"}', b'{"sub":"1234567890"}', bytes(range(32)))
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


SECRETS = {
    "AWS Access Key": ("AKIA" + LETTERS[:16].upper(), 'key_id = "{}"'),
    "Azure Storage Account access key": (
        "AccountKey=" + (LETTERS * 3)[:86] + "==",
        'connect("Endpoint=x;{};")',
    ),
    "Discord Bot Token": ("M" + LETTERS[:23] + "." + LETTERS[:6] + "." + LETTERS[:27], 'run("{}")'),
    "GitHub Token": ("ghp_" + LETTERS[:36], 'headers = ["token {}"]'),
    "GitLab Token": ("glpat-" + LETTERS[:20], 'login("{}")'),
    "Google API Key": ("AIza" + LETTERS[:35], 'maps("{}")'),
    "Hugging Face Token": ("hf_" + LETTERS[:34], "login(token='{}')"),
    "JSON Web Token": (jwt(), 'bearer = "Bearer {}"'),
    "Mailchimp Access Key": ("0123456789abcdef" * 2 + "-us12", 'mail("{}")'),
    "NPM Token": ("npm_" + LETTERS[:36], 'publish("{}")'),
    "OpenAI Token": ("sk-proj-" + LETTERS[:40], 'client("{}")'),
    "PyPI Token": ("pypi-AgEIcHlwaS5vcmc" + (LETTERS * 2)[:72], 'upload("{}")'),
    "SendGrid API Key": ("SG." + LETTERS[:22] + "." + (LETTERS + LETTERS)[:43], 'send("{}")'),
    "Slack Token": ("xoxb-123456789012-123456789012-" + LETTERS[:24].lower(), 'slack("{}")'),
    "Square OAuth Secret": ("sq0csp-" + (LETTERS + LETTERS)[:43], 'pay("{}")'),
    "Stripe Access Key": ("sk_live_" + LETTERS[:24], 'pay("{}")'),
    "Telegram Bot Token": ("110201543:" + LETTERS[:35], 'bot("{}")'),
    "Twilio API Key": ("SK" + "0123456789abcdef" * 2, 'call("{}")'),
    "Basic Auth Credentials": ("tr0ub4dor", 'url = "https://me:{}@host/x"'),
    "Secret Keyword": ("tr0ub4dor&3", 'password = "{}"'),
    "Private Key": (
        f"{KEY_LINE}\n{KEY_LINE}\nQz7Rk2Vw",
        'PEM = """-----BEGIN RSA PRIVATE KEY-----\n{}\n-----END RSA PRIVATE KEY-----"""',
    ),
}


SCRAMBLED = "k3!q9$z_7m&w2(x*5v-b8=t#4n+p1j6^hd"  # as Django's startproject draws one
PASSPHRASE, TOKEN = "Tr0ub" + "4dor&3xy", LETTERS[:32]
GIVEN = [
    ("java", 'class A {{ Map<String, String> m = Map.of("user", "bob", "password", "{}"); }}', PASSPHRASE),
    ("go", 'package p\n\nfunc f() {{ flag.String("password", "{}", "of the database") }}', PASSPHRASE),
    ("rust", 'fn f() {{ let k = env::var("API_KEY").unwrap_or("{}".to_string()); }}', TOKEN),
    ("rust", 'fn f() {{ let k = env::var("API_KEY").unwrap_or_else(|_| "{}".into()); }}', TOKEN),
    ("java", 'class A {{ String k = Optional.ofNullable(System.getenv("API_KEY")).orElse("{}"); }}', TOKEN),
    ("python", 'assert user.check_password("{}")', PASSPHRASE),
    ("typescript", 'const ok: boolean = user.verifyPassword("{}");', PASSPHRASE),
    ("python", 'token = "{}"', SCRAMBLED),
    ("javascript", 'class A {{ static #token = "{}"; }}', SCRAMBLED),
]


@pytest.mark.parametrize(("language", "form", "value"), GIVEN)
def test_values_given_by_a_call_or_full_of_symbols_are_masked(language, form, value) -> None:
    assert value not in mask_secrets(form.format(value), language).text


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("java", 'class A { Map<String, String> m = Map.of("user", "bob", "password", "required"); }'),
        ("go", 'package p\n\nfunc f() { flag.String("password", "", "password of the database") }'),
        ("rust", 'fn f() { let k = env::var("LANGUAGE").unwrap_or("en_US.UTF-8".to_string()); }'),
        ("python", 'assert user.check_password("wrong-password")'),
        ("python", 'token = "--user={0} --mode=fast+safe (1) #2 $3"'),
        ("python", 'key = "%Y-%m-%d_%H:%M:%S+0000=(utc)"'),
        ("python", 'token = "[A-Z]{2,4}(?=\\\\d+)|#(0)+$3*4=5!"'),
    ],
)
def test_what_only_looks_like_them_stays(language, code) -> None:
    assert mask_secrets(code, language).text == code


@pytest.mark.parametrize("kind", SECRETS)
def test_every_kind_is_masked_inside_its_literal(kind: str) -> None:
    value, template = SECRETS[kind]
    code = f"def f():\n    {template.format(value)}\n    return 1\n"
    masked = mask_secrets(code)
    assert masked.kinds == (kind,)
    for piece in value.split("\n"):
        assert piece not in masked.text
    assert placeholder(kind) in masked.text
    assert masked.text.count("\n") == code.count("\n")
    ast.parse(masked.text)
    assert mask_secrets(masked.text) == type(masked)(masked.text, ())


def test_a_token_is_masked_with_its_signature() -> None:
    masked = mask_secrets(f'bearer = "Bearer {jwt()}"')
    assert masked.text == 'bearer = "Bearer MASKED_JSON_WEB_TOKEN"'


def test_private_key_on_one_line_and_over_joined_strings() -> None:
    escaped = f'KEY = "-----BEGIN PRIVATE KEY-----\\nn{KEY_LINE}\\n-----END PRIVATE KEY-----\\n"\n'
    joined = f"""KEY = (
    "-----BEGIN EC PRIVATE KEY-----\\n"
    "{KEY_LINE}\\n"
    "-----END EC PRIVATE KEY-----\\n"
)
"""
    for code in (escaped, joined):
        masked = mask_secrets(code)
        assert KEY_LINE[:20] not in masked.text
        (value,) = [n.value for n in ast.walk(ast.parse(masked.text)) if isinstance(n, ast.Constant)]
        assert value.splitlines()[1] == "MASKED_PRIVATE_KEY"
    cut_short = f'KEY = """-----BEGIN PRIVATE KEY-----\n{KEY_LINE}\n"""\nname_of_something = 1\n'
    assert "name_of_something" in mask_secrets(cut_short).text
    assert KEY_LINE not in mask_secrets(cut_short).text


@pytest.mark.parametrize(
    "code",
    [
        'password = "password"',
        'hasher = "pbkdf2_sha256"; secret_hash = "sha256"',
        'url = "https://user:password@host/"; other = "https://{user}:{password}@host"',
        'ALPHABET_KEY = "abcdefghijklmnopqrstuvwxyz0123456789"',
        'secret_key = settings.get("key_1")',
        'checksum = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"',
        'if "-----BEGIN RSA PRIVATE KEY-----" in text and "-----END RSA PRIVATE KEY-----" in text: pass',
        "uuid = 'f47ac10b-58cc-4372-a567-0e02b2c3d479'",
        'x = APFixedPointSemantics ; y = "node_1"; key = "edge_attribute_name"',
    ],
)
def test_ordinary_code_stays_as_it_is(code: str) -> None:
    assert mask_secrets(code) == type(mask_secrets(""))(code, ())


DJANGO_KEY = (
    "j8%s=+(w" + LETTERS[:12].lower() + "#$2f^&*)-_=!z" + LETTERS[20:36].lower()
)  # as Django makes them
CHOSEN = "hT7!kw9$Qz"
RANDOM = LETTERS[:24]


@pytest.mark.parametrize("value", [DJANGO_KEY, CHOSEN, RANDOM, "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b"])
@pytest.mark.parametrize(
    ("language", "template"),
    [
        ("python", 'SECRET_KEY = "{}"'),
        ("python", 'SECRET_KEY = os.environ.get("SECRET_KEY", "{}")'),
        ("python", 'password: str = "{}"'),
        ("python", "password = b'{}'"),
        ("python", 'password = f"{}"'),
        ("python", 'if (password := "{}"):\n    pass'),
        ("python", 'def connect(host, *, password: str = "{}"):\n    pass'),
        ("python", 'parser.add_argument("--password", default="{}", help="to log in")'),
        ("python", 'connect("host", password="{}", port=1)'),
        ("python", 'config = {{"user": "me", "password": "{}"}}'),
        ("python", 'user, password = "me", "{}"'),
        ("python", 'password = getpass() or "{}"'),
        ("python", 'if password == "{}":\n    pass'),
        ("python", 'def password():\n    return "{}"'),
        ("python", 'ENV = """\nDEBUG=1\nSECRET_KEY={}\nHOST=x\n"""'),
        ("python", 'YAML = """\ndb:\n  password: {}\n"""'),
        ("python", 'JSON = \'{{"password": "{}"}}\''),
        ("python", 'JSON = "{{\\"password\\": \\"{}\\"}}"'),
        ("python", 'requests.get(url, auth=("me", "{}"))'),
        ("javascript", "const apiKey = process.env.API_KEY || `{}`;"),
        ("javascript", 'const quotes = /["\']/; const password = "{}";'),
        ("typescript", 'class A {{\n  private readonly password: string = "{}";\n}}'),
        ("typescript", 'const o: Options = {{ host: "x", clientSecret: "{}" }};'),
        ("go", 'password := "{}"'),
        ("go", 'const (\n\tHost = "x"\n\tPassword = "{}"\n)'),
        ("go", 'var apiKey string = "{}"'),
        ("java", 'private static final String PASSWORD =\n    "{}";'),
        ("java", 'client.setPassword("{}");'),
        ("rust", 'const PASSWORD: &str = "{}";'),
        ("rust", 'static TOKEN_SECRET: &\'static str = "{}";'),
        ("rust", 'let password = String::from("{}");'),
        ("c", '#define PASSWORD "{}"'),
        ("c", 'const char password[64] = "{}";'),
        ("c", 'struct config c = {{ .host = "x", .password = "{}" }};'),
        ("cpp", 'constexpr std::string_view kPassword{{"{}"}};'),
        ("cpp", 'std::map<std::string, std::string> m{{{{"password", "{}"}}}};'),
        # compared, with the name on either side
        ("python", 'assert "{}" == config.password'),
        ("python", 'if password in ("{}", None):\n    pass'),
        ("javascript", 'expect(config.password).toBe("{}");'),
        ("java", 'assertEquals("{}", config.getPassword());'),
        ("java", 'if (!"{}".equals(password)) {{ fail(); }}'),
        ("go", 'assert.Equal(t, "{}", cfg.Password)'),
        ("rust", 'assert_eq!("{}", config.password);'),
        # defaults: named so, beside the name, or in an object that the name is given
        ("python", 'password = Variable.get("PASSWORD", default_var="{}")'),
        ("go", '&cli.StringFlag{{Name: "password", Value: "{}"}}'),
        ("javascript", 'yargs.option("password", {{ type: "string", default: "{}" }});'),
        ("cpp", 'app.add_option("--password", value)->default_val("{}");'),
        ("rust", 'let a = Arg::new("password").default_value("{}");'),
        ("rust", 'struct A {{\n    #[arg(long, default_value = "{}")]\n    pub password: String,\n}}'),
        ("java", '@Option(names = "-p", defaultValue = "{}")\nString password;'),
        # what a block or function is worth
        ("rust", 'let password = match x {{\n    Some(v) => v,\n    None => "{}".to_string(),\n}};'),
        ("rust", 'fn password(&self) -> Option<String> {{\n    Some("{}".into())\n}}'),
        ("go", 'func (c Config) Password() string {{ return "{}" }}'),
        ("typescript", 'class A {{\n  get password(): string {{\n    return "{}";\n  }}\n}}'),
        ("javascript", 'switch (x) {{\n  case "prod":\n    password = "{}";\n}}'),
        # unpacked and chosen from
        ("rust", 'let (host, password): (&str, &str) = ("x", "{}");'),
        ("typescript", 'const [password, other]: string[] = ["{}", "x"];'),
        ("python", 'password = {{"prod": "{}", "dev": None}}[stage]'),
        ("python", 'for password in ("{}",):\n    pass'),
    ],
)
def test_a_long_literal_is_masked_in_every_form_of_assignment(
    language: str, template: str, value: str
) -> None:
    code = template.format(value)
    masked = mask_secrets(code, language)
    assert masked.text == template.format(placeholder("Secret Keyword"))
    assert mask_secrets(masked.text, language) == type(masked)(masked.text, ())


ONE_LINE_BODIES = [
    ("python", f"{head}: password = '{{}}'")
    for head in (
        "if debug", "elif x[1:2]", "for host in hosts", "while True", "with open(p) as f", "try", "finally", "class A",
        "except (OSError, KeyError) as e", "def f(a: int = 1) -> None", "async def f()",
    )
]  # fmt: skip
BESIDE_A_LETTER = [  # strings that no blank parts from the word before
    ("javascript", "const password = String.raw`{}`;"),
    ("javascript", "const a = html`<p>${{x}}</p>;`; const b = css`x`; const password = '{}';"),
    ("typescript", 'const get = (k: string) => {{ if (!k) return"x y"; const password = "{}"; }};'),
    ("javascript", "const a = <p>It doesn't</p>; const password = '{}';"),
    ("python", 'x = 1 if"a b"else"c d"; password = "{}"'),
    ("c", 'printf("%"PRIu64" of\\n", n); const char *password = "{}";'),
]
ELSEWHERE = [
    ("python", 'with patch.object(settings, "API_KEY", new="{}"):\n    pass'),
    ("typescript", 'jest.spyOn(config, "apiKey", "get").mockReturnValue("{}");'),
    ("rust", 'let Some(password) = Some("{}") else {{ return; }};'),
    ("python", 'HCL = """\nvariable "db_password" {{\n  default = "{}"\n}}\n"""'),
    ("python", 'YAML = """\n  - DB=${{DB_PASSWORD-{}}}\n"""'),
    ("python", 'NGINX = """\nproxy_set_header X-Api-Key {};\n"""'),
    ("java", 'String passWord = "{}";'),
    ("java", 'static final byte[] PASSWORD = "{}".getBytes(UTF_8);'),
    ("python", "password = LazyAttribute(lambda o: '{}')"),
    ("python", "cls.password = staticmethod(lambda: '{}')"),
    ("javascript", 'expect(password).not.toBe("{}");'),
    ("cpp", 'value<std::string>(&password)->default_value("{}");'),
    ("c", 'o = (struct options){{ 1, .password = "{}" }};'),
    ("python", "run('docker login -u me -p {} host')"),
    ("python", "run('aws configure set aws_secret_access_key {}')"),
    ("python", "sql = \"SET PASSWORD FOR me = '{}'\""),
    ("c", 'static const char wifi_psk[] = "{}";'),
]


@pytest.mark.parametrize(("language", "form"), [*ONE_LINE_BODIES, *BESIDE_A_LETTER, *ELSEWHERE])
def test_values_are_masked_wherever_a_statement_stands(language: str, form: str) -> None:
    masked = mask_secrets(form.format(RANDOM), language).text
    assert masked == form.format(placeholder("Secret Keyword"))


@pytest.mark.parametrize(
    "code",
    [
        '"""Pass the :class:`~package.runtime2.Context` as the first argument."""',
        '"""Keyword arguments to pass to `httpx2.request`; pass `verbosity=12` for more."""',
        "pass_context = 'Context12'; check(passValue('string2024x'))",
    ],
)
def test_the_verb_to_pass_promises_nothing(code: str) -> None:
    assert mask_secrets(code).text == code


def test_all_pieces_and_lines_of_a_value_are_masked() -> None:
    half = len(RANDOM) // 2
    for joined in ('("{}"\n  "{}")', '"{}" + "{}"', '"".join(["{}", "{}"])'):
        text = mask_secrets("password = " + joined.format(RANDOM[:half], RANDOM[half:])).text
        assert text == "password = " + joined.format(*[placeholder("Secret Keyword")] * 2)
    code = f'SECRET = """\n{RANDOM}\n{RANDOM}\n"""\nafter = 1\n'
    assert mask_secrets(code).text == code.replace(RANDOM, placeholder("Secret Keyword"))


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ('db = "postgresql://me:{}@host:5432/x"', "p+w!9$x,z"),
        ('db = "Server=x;User Id=sa;Password={};Encrypt=true"', CHOSEN),
        ('db = "host=x user=me password={} dbname=y"', CHOSEN),
        ('h = {{"Authorization": "Bearer {}"}}', RANDOM),
        ("run(\"curl -H 'Authorization: Bearer {}' https://x\")", RANDOM),
        ('run("mysqldump --password={} main")', CHOSEN),
        ('run("curl -u me:{} https://x")', CHOSEN),
        ('url = "https://x/v1?api_key={}&page=2"', RANDOM),
        ("# password: {}", CHOSEN),
        ("# the password is {}", CHOSEN),
        ("# remove the db_password '{}'", CHOSEN),
        ('x = """\nENV DB_PASSWORD {}\n"""', CHOSEN),
        ("sql = \"INSERT INTO u (name, password) VALUES ('me', '{}')\"", CHOSEN),
        ('tag = \'env:"PASSWORD" envDefault:"{}"\'', CHOSEN),
        ('run("sshpass -p {} ssh me@host")', CHOSEN),
    ],
)
def test_secrets_inside_strings_and_comments_are_masked_alone(template: str, value: str) -> None:
    text = mask_secrets(template.format(value)).text
    assert value not in text
    before, after = template.replace("{{", "{").replace("}}", "}").split("{}")
    assert text.startswith(f"{before}MASKED_")
    assert text.endswith(after)


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("python", 'key = "assignVariablesTab1482SelectedItem"'),
        (
            "python",
            'sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"  # of the key',
        ),
        (
            "python",
            '"""The token of the author.\n\n>>> f(b"key")\n\'9f86d081884c7d659a2feaa0c55ad015a3bf4f1b\'\n"""',
        ),
        ("python", 'password_field = "input_password_12"; token_url = "https://host/oauth2/v1/token"'),
        ("python", 'password = "your-password-here"; api_key = "<API_KEY_1>"; secret = "${SECRET_1}"'),
        ("python", 'errors = {"password": "Use 8 to 32 characters, please."}'),
        ("python", 'API_KEY = os.environ["MYAPP_API_KEY_V2"]; secret = read("/run/secrets/db_12")'),
        ("python", 'TOKEN = r"[A-Za-z0-9_]{20,40}"; token = f"{user[:3]}-{name(1)}"'),
        ("python", 'tokens = ["ident_1", "string2"]; public_key = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQ"'),
        ("javascript", 'if (event.key === "F12") select("password-input-3");'),
        ("typescript", 'export const AUTH_TOKEN_KEY = "app.auth.token.v2";'),
        ("go", 'Password string `json:"password_2" validate:"min=8,max=32"`'),
        ("java", '@JsonProperty("access_token_2") String accessToken;'),
        ("rust", 'let api_key = env::var("MYAPP_API_KEY_2").unwrap();'),
        ("python", 'text = text.replace("api_key", "ribbon_784"); self.assertNotIn("token", "velvet_12")'),
        ("python", 'ICONS = {"access_token": "fa-ribbon-1758"}; describe("password", "velvet12")'),
        (
            "python",
            'COLUMNS = [("api_key", "varchar(358)")]; options = {"default": "ribbon12", "title": "password"}',
        ),
        ("javascript", 'const rules = { password: "required|min:777" };'),
        ("rust", 'let password = Entry::new("ribbon", "velvet12")?.get_password()?;'),
        ("java", 'static final String LICENSE_KEY_PROPERTY = "ribbon.velvet.102";'),
        ("c", '#define PASSWORD_FILE "/etc/app/passwd2.conf"'),
    ],
)
def test_look_alikes_stay_as_they_are(language: str, code: str) -> None:
    assert mask_secrets(code, language).text == code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("Cloudant Credentials", f'cl_key = "{"0a1b" * 16}"'),
        ("IBM Cloud IAM Key", f'x = "ibm_key: {(LETTERS * 2)[:44]}"'),
        ("IBM COS HMAC Credentials", f'cos_secret_key = "{"0a1b" * 12}"'),
        ("SoftLayer Credentials", f'x = "sl_key: {"0a1b" * 16}"'),
        ("Artifactory Credentials", f'x = "AKC{LETTERS[:20]}"'),
    ],
)
def test_slow_detectors_search_every_text_that_holds_what_they_find(
    monkeypatch, kind: str, code: str
) -> None:
    masked = mask_secrets(code)
    assert kind in masked.kinds
    monkeypatch.setattr("helpers.code.secrets.REQUIRED", {})
    assert mask_secrets(code) == masked


def test_tokens_read_by_the_short_rule_are_those_of_the_long_one(monkeypatch) -> None:
    texts = [(path.read_text(), "python") for path in sorted(Path(__file__).parent.glob("test_m*.py"))]
    texts += [
        (item.code, language) for item in planted_secrets("dev", 2, 400) for language in (item.language, "")
    ]
    quick = [lexemes(*text) for text in texts]
    monkeypatch.setattr("helpers.code.literals.PLAIN_ALONE", re.compile("(?!)(?P<name>)"))
    assert [lexemes(*text) for text in texts] == quick


@pytest.mark.parametrize("nested", ["[", '{"value": ', '{"token": ', "f(", "(1, "])
def test_deep_nesting_costs_little(nested: str) -> None:
    code = "password = 1\nx = " + nested * 3_000 + f'"{RANDOM}"'
    started = time.process_time()
    mask_secrets(code)
    assert time.process_time() - started < 10


def test_a_rust_string_may_hold_line_breaks() -> None:
    code = 'let yaml = "\ndb:\n  password: {}\n";\nlet password = "{}";\n'
    masked = mask_secrets(code.format(CHOSEN, RANDOM), "rust").text
    assert masked == code.format(*[placeholder("Secret Keyword")] * 2)


def test_the_default_corpus_holds_no_secret(networkx_corpus) -> None:
    assert secret_counts(networkx_corpus) == {}


def test_output_of_running_code_is_checked_more_strictly() -> None:
    text = f'assert f() == "{LETTERS[:30]}"'
    assert mask_secrets(text).kinds == ()
    assert holds_secret(text)
    assert not holds_secret("assert f([1, 2]) == {'a': (0, 1), 'b': 'some words'}")


def planted(folder: Path) -> tuple[Path, list[str]]:
    """Build a repository with every kind of secret in code, docstrings, tests and rejected files."""
    lines = [template.format(value) for value, template in SECRETS.values()]
    for number, line in enumerate(lines):
        code = f"def work_{number}(value):\n    '''Do the work of number {number} on a value.'''\n    {line}\n    return value\n"
        (folder / f"module_{number}.py").write_text(code)
        (folder / f"broken_{number}.py").write_text(f"# Generated by {line.splitlines()[0]}\n{code}")
    (folder / "tests").mkdir()
    test = "from module_0 import work_0\n\ndef test_it():\n    password = 'tr0ub4dor&3'\n    assert work_0(password) == password\n"
    (folder / "tests" / "test_module.py").write_text(test)
    return folder, [piece for value, _ in SECRETS.values() for piece in value.split("\n")]


def test_no_planted_secret_reaches_anything_made_from_a_corpus(tmp_path) -> None:
    settings = CorpusSettings(min_file_bytes=1, near_duplicate_threshold=1.0)
    folder, values = planted(tmp_path)
    corpus = load_corpus(f"path:{folder}", settings)
    functions = extract_functions(corpus)
    splits = split_corpus(corpus, functions, settings, 1)
    leaks = check_splits(corpus, functions, splits, settings)
    facts = corpus_facts(corpus, functions, splits, settings=settings, leaks=leaks)
    suite = TestSuite(corpus, functions)
    cases = [case.body for f in functions for case in suite.cases(f, 5)]
    assert len(cases) == 1
    shown = json.dumps(facts) + render_data_card({"corpus": facts}) + repr((corpus, functions, cases))
    assert [value for value in values if value in shown] == []
    assert secret_counts(corpus) == dict.fromkeys(sorted(SECRETS), 1)
    assert "Secrets were found" in corpus_warnings(corpus)[-1]
    assert "| Private Key | 1 |" in render_data_card({"corpus": facts})


def test_a_file_that_would_not_parse_without_its_secret_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "a.py").write_text('def f():\n    password = "tr0ub4dor&3"\n    return 1\n')
    (tmp_path / "b.py").write_text("def g():\n    return 1\n")
    monkeypatch.setattr("helpers.code.secrets.placeholder", lambda kind: f'{MASK}"')
    corpus = load_corpus(f"path:{tmp_path}", CorpusSettings(min_file_bytes=1))
    (refused,) = corpus.rejected
    assert (refused.reason, refused.detail) == ("secret that cannot be masked", "Secret Keyword")
