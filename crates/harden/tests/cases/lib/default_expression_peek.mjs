import * as whole from './default_expression.mjs';
import late from './default_expression.mjs';
const attempt = (work) => { try { return typeof work(); } catch (error) { return error.name; } };
export const seen = [attempt(() => late), attempt(() => whole.default), attempt(() => whole.early)].join();
