"""Signatures and encryption of the double, made with the Python library wechatpayv3. Input and output: one JSON object per line."""
import json
import sys
from base64 import b64encode
from functools import lru_cache

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from wechatpayv3.utils import aes_decrypt, load_private_key, load_public_key, rsa_sign, rsa_verify

private_key = lru_cache(None)(load_private_key)
public_key = lru_cache(None)(load_public_key)


def verify(key, lines, signature):
    """The library joins three parts with line feeds. The first part may have several lines."""
    *first, nonce, body = lines
    return rsa_verify('\n'.join(first), nonce, body, signature, public_key(key))


def sign(key, lines):
    return rsa_sign(private_key(key), ''.join(line + '\n' for line in lines))


def encrypt(key, nonce, associated_data, text):
    sealed = AESGCM(key.encode()).encrypt(nonce.encode(), text.encode(), associated_data.encode())
    ciphertext = b64encode(sealed).decode()
    assert aes_decrypt(nonce, ciphertext, associated_data, key) == text
    return ciphertext


DOES = {'verify': verify, 'sign': sign, 'encrypt': encrypt}

for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps({'id': asked['id'], 'answer': DOES[asked['does']](**asked['given'])}), flush=True)
