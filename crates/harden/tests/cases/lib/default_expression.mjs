import { seen } from './default_expression_peek.mjs';
export default (function () { return 'expression'; });
export const early = seen;
export const Kept = (class {});
