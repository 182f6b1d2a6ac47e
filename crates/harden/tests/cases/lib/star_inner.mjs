export const value = 1, { a, b: [c, ...d] } = { a: 2, b: [3, 4, 5] };
