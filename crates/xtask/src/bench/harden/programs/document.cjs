// Parses a text format, transforms the tree and prints it: strings, recursion, maps.
class SyntaxProblem extends Error {
  constructor(message, line, column) {
    super(`${message} at ${line}:${column}`);
    this.name = 'SyntaxProblem';
  }
}

class Reader {
  constructor(text) {
    this.text = text;
    this.position = 0;
    this.line = 1;
    this.column = 1;
  }

  peek() {
    return this.text[this.position];
  }

  next() {
    const character = this.text[this.position++];
    if (character === '\n') {
      this.line += 1;
      this.column = 1;
    } else {
      this.column += 1;
    }
    return character;
  }

  skip() {
    while (this.position < this.text.length && ' \t\r\n'.includes(this.peek())) this.next();
  }

  expect(character) {
    this.skip();
    if (this.peek() !== character) throw new SyntaxProblem(`expected ${character}`, this.line, this.column);
    this.next();
  }
}

function parseValue(reader) {
  reader.skip();
  const first = reader.peek();
  switch (first) {
    case '{':
      return parseObject(reader);
    case '[':
      return parseList(reader);
    case '"':
      return { type: 'text', value: parseText(reader) };
    case undefined:
      throw new SyntaxProblem('unexpected end', reader.line, reader.column);
    default:
      return parseWord(reader);
  }
}

function parseObject(reader) {
  const entries = new Map();
  reader.expect('{');
  for (reader.skip(); reader.peek() !== '}'; reader.skip()) {
    const name = parseText(reader);
    reader.expect(':');
    entries.set(name, parseValue(reader));
    reader.skip();
    if (reader.peek() === ',') reader.next();
  }
  reader.expect('}');
  return { type: 'object', entries };
}

function parseList(reader) {
  const items = [];
  reader.expect('[');
  for (reader.skip(); reader.peek() !== ']'; reader.skip()) {
    items.push(parseValue(reader));
    reader.skip();
    if (reader.peek() === ',') reader.next();
  }
  reader.expect(']');
  return { type: 'list', items };
}

function parseText(reader) {
  reader.expect('"');
  let value = '';
  while (reader.peek() !== '"') {
    const character = reader.next();
    if (character === undefined) throw new SyntaxProblem('open string', reader.line, reader.column);
    value += character === '\\' ? reader.next() : character;
  }
  reader.expect('"');
  return value;
}

function parseWord(reader) {
  let word = '';
  while (reader.peek() !== undefined && /[-+.\w]/.test(reader.peek())) word += reader.next();
  if (word === 'true' || word === 'false') return { type: 'flag', value: word === 'true' };
  if (word === 'null') return { type: 'nothing' };
  const number = Number(word);
  if (word === '' || Number.isNaN(number)) throw new SyntaxProblem(`bad word ${word}`, reader.line, reader.column);
  return { type: 'number', value: number };
}

function transform(node, depth = 0) {
  if (node.type === 'object') {
    const names = [...node.entries.keys()].sort();
    return { type: 'object', entries: new Map(names.map(name => [name.toUpperCase(), transform(node.entries.get(name), depth + 1)])) };
  }
  if (node.type === 'list') return { type: 'list', items: node.items.map(item => transform(item, depth + 1)).reverse() };
  if (node.type === 'number') return { ...node, value: node.value * 2 + depth };
  return node;
}

function print(node, indent = '') {
  const inner = `${indent}  `;
  if (node.type === 'object') {
    const lines = Array.from(node.entries, ([name, value]) => `${inner}${name}: ${print(value, inner)}`);
    return lines.length ? `{\n${lines.join('\n')}\n${indent}}` : '{}';
  }
  if (node.type === 'list') return `[${node.items.map(item => print(item, inner)).join(', ')}]`;
  if (node.type === 'text') return JSON.stringify(node.value);
  return node.type === 'nothing' ? 'none' : String(node.value);
}

function sample(depth) {
  if (depth === 0) return [1, 2.5, 'leaf "quoted"', true, null];
  return { name: `level ${depth}`, left: sample(depth - 1), right: sample(depth - 1), list: [depth, [depth], {}] };
}

exports.run = function run() {
  const text = JSON.stringify(sample(7), null, 1);
  let printed = '';
  for (let round = 0; round < 4; round++) printed = print(transform(parseValue(new Reader(text))));
  let problem = '';
  try {
    parseValue(new Reader('{"open": [1, 2'));
  } catch (error) {
    problem = `${error.name}: ${error.message}`;
  }
  let hash = 0;
  for (let index = 0; index < printed.length; index++) hash = (hash * 31 + printed.charCodeAt(index)) | 0;
  return `${printed.length} ${hash} ${problem}`;
};
