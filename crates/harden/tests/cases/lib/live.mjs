export let count = 0;
export function increment() { count++; second++; }
let second = 10;
export { second as alias };
export default class Named {}
