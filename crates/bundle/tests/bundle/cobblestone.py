"""Seals or opens with pyca/cryptography: `cobblestone.py seal|open <key in hex> <context in hex> < in > out`."""

import sys

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

kind = {"seal": Cobblestone256Encryptor, "open": Cobblestone256Decryptor}[sys.argv[1]]
worker = kind(bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3]))
out = worker.update(sys.stdin.buffer.read())
sys.stdout.buffer.write(out + worker.finalize())
