// Compresses by a dictionary, packs bits, and unpacks again: typed arrays and maps.
function compress(text) {
  const dictionary = new Map();
  for (let code = 0; code < 256; code++) dictionary.set(String.fromCharCode(code), code);
  const codes = [];
  let phrase = '';
  for (const character of text) {
    const longer = phrase + character;
    if (dictionary.has(longer)) {
      phrase = longer;
      continue;
    }
    codes.push(dictionary.get(phrase));
    if (dictionary.size < 65536) dictionary.set(longer, dictionary.size);
    phrase = character;
  }
  if (phrase !== '') codes.push(dictionary.get(phrase));
  return codes;
}

function decompress(codes) {
  const dictionary = [];
  for (let code = 0; code < 256; code++) dictionary.push(String.fromCharCode(code));
  const parts = [];
  let previous = null;
  for (const code of codes) {
    let entry;
    if (code < dictionary.length) entry = dictionary[code];
    else if (previous !== null) entry = previous + previous[0];
    else throw new RangeError(`no entry ${code}`);
    parts.push(entry);
    if (previous !== null && dictionary.length < 65536) dictionary.push(previous + entry[0]);
    previous = entry;
  }
  return parts.join('');
}

function pack(codes, width) {
  const bytes = new Uint8Array(Math.ceil((codes.length * width) / 8));
  let bit = 0;
  for (const code of codes) {
    for (let index = 0; index < width; index++, bit++) {
      if ((code >> index) & 1) bytes[bit >> 3] |= 1 << (bit & 7);
    }
  }
  return bytes;
}

function unpack(bytes, count, width) {
  const codes = [];
  for (let item = 0, bit = 0; item < count; item++) {
    let code = 0;
    for (let index = 0; index < width; index++, bit++) code |= ((bytes[bit >> 3] >> (bit & 7)) & 1) << index;
    codes.push(code);
  }
  return codes;
}

exports.run = function run() {
  const words = ['alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta'];
  let text = '';
  for (let index = 0, state = 7; index < 9000; index++) {
    state = (state * 75 + 74) % 65537;
    text += words[state % words.length] + (state % 5 === 0 ? '\n' : ' ');
  }
  const codes = compress(text);
  const packed = pack(codes, 16);
  const back = decompress(unpack(packed, codes.length, 16));
  return `${text.length} ${packed.length} ${back === text}`;
};
