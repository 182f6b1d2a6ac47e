console.log(Object.is(-0, 0), 1 / -0, Object.is(0 * -1, -0), [-0].includes(0), Object.is(Math.min(0, -0), -0), `${-0}`, -0 + '', Object.is(-0 + 0, 0), Object.is(-(0), -0), Object.is(0 / -5, -0), Object.is(-0 - 0, -0), Object.is(+(-0), -0));
const zero = 0; console.log(Object.is(-zero, -0), 1 / (zero * -1), Object.is(Math.round(-0.4), -0), Object.is(-1 % 1, -0), ~~-0.5, -0 | 0);
