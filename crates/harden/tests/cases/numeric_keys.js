const o = { 0.1: 'a', 1e21: 'b', 0b11: 'c', 0o17: 'd', .5: 'e', '01': 'f', '1_000': 'g', 1_000: 'h' };
console.log(Object.entries(o), o[01], o['0.1'], o[1e21]);
