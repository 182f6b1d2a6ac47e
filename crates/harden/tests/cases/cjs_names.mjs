import * as assigned from './lib/cjs_assigned.cjs';
import * as literal from './lib/cjs_literal.cjs';
import * as getters from './lib/cjs_getters.cjs';
import * as umd from './lib/cjs_umd.cjs';
import * as star from './lib/cjs_star.cjs';
import * as babel from './lib/cjs_babel.cjs';
import * as esbuild from './lib/cjs_esbuild.cjs';
import * as again from './lib/cjs_again.cjs';
import * as chain from './lib/cjs_chain.cjs';
import * as odd from './lib/cjs_odd.cjs';
for (const [name, all] of Object.entries({ assigned, literal, getters, umd, star, babel, esbuild, again, chain, odd }))
  console.log(name, Object.keys(all).join(), typeof all.default);
