// SHA-256 of growing texts: integer arithmetic in tight loops.
const K = [];
let prime = 2;
while (K.length < 64) {
  let composite = false;
  for (let divisor = 2; divisor * divisor <= prime; divisor++) if (prime % divisor === 0) composite = true;
  if (!composite) K.push(((Math.cbrt(prime) % 1) * 0x100000000) | 0);
  prime++;
}

function rotate(word, bits) {
  return (word >>> bits) | (word << (32 - bits));
}

function digest(bytes) {
  const state = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];
  const padded = new Uint8Array(((bytes.length + 8) >> 6) * 64 + 64);
  padded.set(bytes);
  padded[bytes.length] = 0x80;
  const view = new DataView(padded.buffer);
  view.setUint32(padded.length - 4, bytes.length * 8);
  const words = new Int32Array(64);
  for (let offset = 0; offset < padded.length; offset += 64) {
    for (let index = 0; index < 16; index++) words[index] = view.getInt32(offset + index * 4);
    for (let index = 16; index < 64; index++) {
      const early = words[index - 15];
      const late = words[index - 2];
      const sigma0 = rotate(early, 7) ^ rotate(early, 18) ^ (early >>> 3);
      const sigma1 = rotate(late, 17) ^ rotate(late, 19) ^ (late >>> 10);
      words[index] = (words[index - 16] + sigma0 + words[index - 7] + sigma1) | 0;
    }
    let [a, b, c, d, e, f, g, h] = state;
    for (let index = 0; index < 64; index++) {
      const choose = (e & f) ^ (~e & g);
      const sum1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
      const first = (h + sum1 + choose + K[index] + words[index]) | 0;
      const majority = (a & b) ^ (a & c) ^ (b & c);
      const sum0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
      h = g;
      g = f;
      f = e;
      e = (d + first) | 0;
      d = c;
      c = b;
      b = a;
      a = (first + sum0 + majority) | 0;
    }
    [a, b, c, d, e, f, g, h].forEach((word, index) => (state[index] = (state[index] + word) | 0));
  }
  return state.map(word => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

exports.run = function run() {
  let text = 'abc';
  for (let round = 0; round < 60; round++) text = digest(new TextEncoder().encode(text.repeat(round + 1)));
  return text;
};
