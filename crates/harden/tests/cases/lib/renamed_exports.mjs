let hidden = 'old';
class Shape {}
export { hidden as visible, hidden as default, hidden as 'a name', Shape };
export * as inner from './renamed_exports_inner.mjs';
export function change() { hidden = 'new'; }
