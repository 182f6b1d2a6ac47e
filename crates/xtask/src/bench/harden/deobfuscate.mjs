// `node deobfuscate.mjs <tool> <in> <out>`: what one public deobfuscator makes of a file, in a process of its own.
import fs from 'node:fs';

import { load, require } from './libraries.mjs';

const [tool, input, output] = process.argv.slice(2);
const text = fs.readFileSync(input, 'utf8');
for (const quiet of ['log', 'warn', 'error', 'info', 'debug']) console[quiet] = () => {};

const tools = {
  async webcrack() {
    const { webcrack } = await load('webcrack');
    return (await webcrack(text, { jsx: false, unpack: false })).code;
  },
  async synchrony() {
    const { Deobfuscator } = require('deobfuscator');
    return new Deobfuscator().deobfuscateSource(text);
  },
  async restringer() {
    const { REstringer } = await load('restringer');
    const restringer = new REstringer(text);
    restringer.logger.setLogLevelNone();
    restringer.deobfuscate();
    return restringer.script;
  },
  async 'obfuscator-io-deobfuscator'() {
    const { parse } = require('@babel/parser');
    const { Deobfuscator } = require('obfuscator-io-deobfuscator/dist/deobfuscator/deobfuscator.js');
    const { defaultConfig } = require('obfuscator-io-deobfuscator/dist/deobfuscator/transformations/config.js');
    const ast = parse(text, { sourceType: 'unambiguous', allowReturnOutsideFunction: true });
    return new Deobfuscator(ast, { ...defaultConfig, silent: true }).execute();
  },
};

fs.writeFileSync(output, await tools[tool]());
process.exit(0);
