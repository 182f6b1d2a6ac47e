// sigstore-js' verdict on each bundle of a folder.
//
//   node verdicts.mjs <folder of the libraries> <trusted root> <folder> <SHA-256 of the artifact> <identity> <issuer>
//
// Prints one line a file: its name, and `accepted` or `refused` with the reason. What the library leaves to its caller, the
// digest of the subject, is compared here.

import { createRequire } from 'node:module';
import { readFileSync, readdirSync } from 'node:fs';

const [libraries, root, folder, digest, subjectAlternativeName, issuer] = process.argv.slice(2);
const require = createRequire(`${libraries}/package.json`);
const { bundleFromJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const { Verifier, toTrustMaterial, toSignedEntity } = require('@sigstore/verify');

const material = toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(readFileSync(root, 'utf8'))));
const verifier = new Verifier(material, { tlogThreshold: 1, ctlogThreshold: 1, timestampThreshold: 1 });

function verify(path) {
  const bundle = bundleFromJSON(JSON.parse(readFileSync(path, 'utf8')));
  verifier.verify(toSignedEntity(bundle), { subjectAlternativeName, extensions: { issuer } });
  const { subject } = JSON.parse(bundle.content.dsseEnvelope.payload);
  if (!subject.some((it) => it.digest.sha256 === digest)) throw new Error('the statement is about another artifact');
}

for (const name of readdirSync(folder).sort()) {
  try {
    verify(`${folder}/${name}`);
    console.log(`${name}\taccepted`);
  } catch (error) {
    const reason = `${error.code ?? error.name}: ${error.message}`.replace(/\s+/g, ' ').slice(0, 160);
    console.log(`${name}\trefused\t${reason}`);
  }
}
