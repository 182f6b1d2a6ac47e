// Finds shortest paths on a grid with a heap, then matches words with regular expressions.
class Heap {
  #items = [];

  get size() {
    return this.#items.length;
  }

  push(key, value) {
    const items = this.#items;
    items.push({ key, value });
    for (let child = items.length - 1; child > 0; ) {
      const parent = (child - 1) >> 1;
      if (items[parent].key <= items[child].key) break;
      [items[parent], items[child]] = [items[child], items[parent]];
      child = parent;
    }
  }

  pop() {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (items.length > 0) {
      items[0] = last;
      for (let parent = 0; ; ) {
        let child = parent * 2 + 1;
        if (child >= items.length) break;
        if (child + 1 < items.length && items[child + 1].key < items[child].key) child += 1;
        if (items[parent].key <= items[child].key) break;
        [items[parent], items[child]] = [items[child], items[parent]];
        parent = child;
      }
    }
    return top;
  }
}

function* neighbours(cell, size) {
  const row = Math.floor(cell / size);
  const column = cell % size;
  if (row > 0) yield cell - size;
  if (row < size - 1) yield cell + size;
  if (column > 0) yield cell - 1;
  if (column < size - 1) yield cell + 1;
}

function shortest(size, cost) {
  const best = new Array(size * size).fill(Infinity);
  const heap = new Heap();
  best[0] = 0;
  heap.push(0, 0);
  while (heap.size > 0) {
    const { key, value: cell } = heap.pop();
    if (key > best[cell]) continue;
    if (cell === size * size - 1) return key;
    for (const next of neighbours(cell, size)) {
      const distance = key + cost(next);
      if (distance < best[next]) {
        best[next] = distance;
        heap.push(distance, next);
      }
    }
  }
  return Infinity;
}

const RULES = [
  { name: 'number', pattern: /^\d+(?:\.\d+)?$/ },
  { name: 'name', pattern: /^[a-z]+(?:_[a-z]+)*$/i },
  { name: 'operator', pattern: /^[-+*/=<>!]+$/ },
];

function classify(text) {
  const counts = Object.create(null);
  for (const word of text.split(/\s+/)) {
    const rule = RULES.find(({ pattern }) => pattern.test(word));
    const name = rule?.name ?? 'other';
    counts[name] = (counts[name] ?? 0) + 1;
  }
  return Object.entries(counts).sort().map(([name, count]) => `${name}=${count}`).join(',');
}

exports.run = function run() {
  const distance = shortest(150, cell => ((cell * 7919) % 97) + 1);
  const text = 'let some_name = 12.5 + other / 3 ; if ( a <= b ) x9 '.repeat(800);
  return `${distance} ${classify(text)}`;
};
