"""What all cells share: keys, certificate, API keys, and tokens good and bad. Made anew for every run, with openssl."""

import base64
import hashlib
import hmac
import json
import secrets
import subprocess
import time

import gateway

API_KEYS = 10_000
SUBJECTS = 1_000


def openssl(*argv, given=None):
    """What openssl prints, as bytes."""
    return subprocess.run(["openssl", *map(str, argv)], input=given, capture_output=True, check=True).stdout


def url64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make(folder):
    """Fills a folder with everything `Cell` names as shared."""
    folder.mkdir(parents=True, exist_ok=True)
    seed = secrets.token_hex(8)
    lines = [f"{hashlib.sha256(f'{seed}-{n}'.encode()).hexdigest()[:40]} client-{n}\n" for n in range(API_KEYS)]
    (folder / "keys.txt").write_text("".join(lines))
    (folder / "hs256.secret").write_text(secrets.token_hex(32))
    for name, kind in [("rs256", ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]), ("es256", EC), ("key", EC)]:
        openssl("genpkey", *kind, "-out", folder / f"{name}.pem")
        openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}.pub.pem")
    names = "subjectAltName=DNS:bench.test,DNS:localhost"
    openssl("req", "-x509", "-key", folder / "key.pem", "-out", folder / "cert.pem", "-days", 30,
            "-subj", "/CN=bench.test", "-addext", names)
    (folder / "jwks.json").write_text(json.dumps({"keys": key_set(folder)}, indent=1) + "\n")


EC = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]


def key_set(folder):
    """The three keys as JWK."""
    modulus = openssl("rsa", "-pubin", "-in", folder / "rs256.pub.pem", "-noout", "-modulus").split(b"=")[1].strip()
    # The point stands uncompressed at the end of the DER.
    point = openssl("pkey", "-pubin", "-in", folder / "es256.pub.pem", "-outform", "DER")[-64:]
    secret = (folder / "hs256.secret").read_bytes()
    return [
        {"kty": "oct", "kid": "hs", "alg": "HS256", "use": "sig", "k": url64(secret)},
        {"kty": "RSA", "kid": "rs", "alg": "RS256", "use": "sig", "n": url64(bytes.fromhex(modulus.decode())), "e": "AQAB"},
        {"kty": "EC", "kid": "es", "alg": "ES256", "use": "sig", "crv": "P-256", "x": url64(point[:32]), "y": url64(point[32:])},
    ]


def claims(sub, **changed):
    """Claims of a good token, some of them changed; None takes one out."""
    now = int(time.time())
    all_of_them = {"iss": gateway.ISSUER, "aud": gateway.AUDIENCE, "sub": sub, "iat": now, "exp": now + 86_400, **changed}
    return {name: value for name, value in all_of_them.items() if value is not None}


def token(folder, algorithm, body, key=None, kid=None):
    """A signed token. `key` replaces the right one: a secret for HS256, else the path of a private key."""
    head = {"alg": algorithm, "typ": "JWT", "kid": kid or gateway.KIDS.get(algorithm, "rs")}
    signed = f"{url64(json.dumps(head).encode())}.{url64(json.dumps(body).encode())}"
    return f"{signed}.{url64(signature(folder, algorithm, signed.encode(), key))}"


def signature(folder, algorithm, signed, key):
    if algorithm == "none":
        return b""
    if algorithm == "HS256":
        return hmac.digest(key or (folder / "hs256.secret").read_bytes(), signed, "sha256")
    made = openssl("dgst", "-sha256", "-sign", key or folder / f"{algorithm.lower()}.pem", given=signed)
    return made if algorithm == "RS256" else raw_ecdsa(made)


def raw_ecdsa(der):
    """r and s of 32 bytes each, from the DER of two integers."""
    at, both = 2, b""
    for _ in range(2):
        length = der[at + 1]
        both += int.from_bytes(der[at + 2 : at + 2 + length], "big").to_bytes(32, "big")
        at += 2 + length
    return both
