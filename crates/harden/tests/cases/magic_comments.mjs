export const load = (name) => import(/* webpackIgnore: true */ /* @vite-ignore */ name);
console.log((await load('./lib/live.mjs')).count);
