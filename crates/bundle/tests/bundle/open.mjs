// Opens a sealed file with nothing but Node: `node open.mjs <key in hex> <context in hex> < sealed > plain`.
import { createDecipheriv, createHmac, timingSafeEqual } from 'node:crypto';
import { readFileSync, writeSync } from 'node:fs';

const [key, context] = process.argv.slice(2).map((hex) => Buffer.from(hex, 'hex'));
const sealed = readFileSync(0);
const info = Buffer.concat([
  Buffer.from('c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0'),
  sealed.subarray(0, 24),
  context,
]);
const block = (before, number) =>
  createHmac('sha512', key).update(before).update(info).update(Buffer.of(number)).digest();
const first = block(Buffer.alloc(0), 1);
const expanded = Buffer.concat([first, block(first, 2)]);
if (!timingSafeEqual(expanded.subarray(44, 76), sealed.subarray(24, 56))) throw new Error('another key or context');
for (let at = 56, number = 0n, length = 16400; length === 16400; at += length, number += 1n) {
  length = Math.min(16400, sealed.length - at);
  if (length < 16) throw new Error('cut off');
  const nonce = Buffer.from(expanded.subarray(32, 44));
  nonce.writeBigUInt64BE(nonce.readBigUInt64BE(4) ^ number, 4);
  const cipher = createDecipheriv('aes-256-gcm', expanded.subarray(0, 32), nonce);
  cipher.setAuthTag(sealed.subarray(at + length - 16, at + length));
  const plain = Buffer.concat([cipher.update(sealed.subarray(at, at + length - 16)), cipher.final()]);
  for (let written = 0; written < plain.length; ) written += writeSync(1, plain, written);
}
