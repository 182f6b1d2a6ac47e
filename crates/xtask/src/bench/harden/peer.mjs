// `node peer.mjs <tool> <in> <out> module|script`: one file through another tool, in a process of its own.
//
// Prints what the call took, without starting Node.js or loading the tool, as JSON.
import fs from 'node:fs';

import { load, require } from './libraries.mjs';

const [tool, input, output, kind] = process.argv.slice(2);
const text = fs.readFileSync(input, 'utf8');
const module = kind === 'module';

const obfuscator = preset => {
  const { obfuscate } = require('javascript-obfuscator');
  return () => obfuscate(text, { optionsPreset: preset, target: 'node' }).getObfuscatedCode();
};
const confuser = preset => {
  const { obfuscate } = require('js-confuser');
  return async () => (await obfuscate(text, { target: 'node', preset })).code;
};
const tools = {
  swc: () => {
    const { minify } = require('@swc/core');
    return async () => (await minify(text, { compress: true, mangle: true, module })).code;
  },
  'swc-top-level': () => {
    const { minify } = require('@swc/core');
    const options = { compress: { toplevel: true }, mangle: { toplevel: true }, module };
    return async () => (await minify(text, options)).code;
  },
  oxc: async () => {
    const { minifySync } = await load('oxc-minify');
    return () => {
      const { code, errors } = minifySync(input, text);
      if (errors?.length) throw errors[0];
      return code;
    };
  },
  esbuild: () => {
    const { transform } = require('esbuild');
    return async () => (await transform(text, { minify: true })).code;
  },
  terser: () => {
    const { minify } = require('terser');
    return async () => (await minify(text, { module })).code;
  },
  'uglify-js': () => {
    const { minify } = require('uglify-js');
    return () => {
      const { code, error } = minify(text, { module });
      if (error) throw error;
      return code;
    };
  },
  'jso low': () => obfuscator('low-obfuscation'),
  'jso default': () => obfuscator('default'),
  'jso medium': () => obfuscator('medium-obfuscation'),
  'jso high': () => obfuscator('high-obfuscation'),
  'js-confuser low': () => confuser('low'),
  'js-confuser medium': () => confuser('medium'),
};

const call = await tools[tool]();
const cpu = process.cpuUsage();
const started = performance.now();
const code = await call();
const ms = performance.now() - started;
const { user, system } = process.cpuUsage(cpu);
if (typeof code !== 'string' || !code) throw new Error(`${tool} gave no code`);
fs.writeFileSync(output, code);
// esbuild works in a process of its own, whose CPU time is not told: its wall time stands for both.
const cpu_ms = tool === 'esbuild' ? ms : (user + system) / 1000;
console.log(JSON.stringify({ ms, cpu_ms, bytes: Buffer.byteLength(code) }));
process.exit(0);
