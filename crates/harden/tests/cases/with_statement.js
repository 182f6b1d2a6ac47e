const scope = { value: 1, nested: { value: 2 } };
const value = 0;
with (scope) { console.log(value); with (nested) { console.log(value); } }
