export * from './star_inner.mjs';
export * as inner from './star_inner.mjs';
export { value as default } from './star_inner.mjs';
const odd = 3;
export { odd as 'odd name' };
