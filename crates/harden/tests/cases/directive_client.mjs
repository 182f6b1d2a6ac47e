'use client';
'use server'
"a directive of no one";
import { readFileSync } from 'node:fs';
const start = readFileSync(new URL(import.meta.url), 'utf8').trim();
console.log(/^['"]use client['"];?\s*['"]use server['"]/.test(start), (() => { 'use client'; return typeof this; })());
