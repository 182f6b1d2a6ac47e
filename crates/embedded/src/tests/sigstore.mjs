// sigstore-js as a peer of the private Sigstore: signs with it, and verifies what others signed.
//
//   node sigstore.mjs sign <folder of the libraries> <dsse|blob> <1|2> <base URL> <payload> <bundle>
//   node sigstore.mjs verify <folder of the libraries> <trusted root> <bundle> <artifact> <identity> <issuer>
//
// `sign` reads the identity token from SIGSTORE_TOKEN.

import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';

const [verb, libraries, ...rest] = process.argv.slice(2);
const require = createRequire(`${libraries}/package.json`);

async function sign(kind, version, base, payload, out) {
  const { DSSEBundleBuilder, MessageSignatureBundleBuilder, FulcioSigner, RekorWitness, TSAWitness } =
    require('@sigstore/sign');
  const { bundleToJSON } = require('@sigstore/bundle');
  const retry = 0;
  const signer = new FulcioSigner({
    fulcioBaseURL: base,
    identityProvider: { getToken: async () => process.env.SIGSTORE_TOKEN },
    retry,
  });
  const witnesses = [
    new RekorWitness({ rekorBaseURL: base, majorApiVersion: Number(version), entryType: 'dsse', retry }),
    new TSAWitness({ tsaBaseURL: `${base}/api/v1/timestamp`, retry }),
  ];
  const Builder = kind === 'dsse' ? DSSEBundleBuilder : MessageSignatureBundleBuilder;
  const artifact = { data: readFileSync(payload), type: 'application/vnd.in-toto+json' };
  const bundle = await new Builder({ signer, witnesses }).create(artifact);
  writeFileSync(out, JSON.stringify(bundleToJSON(bundle)));
}

function verify(root, bundlePath, artifactPath, subjectAlternativeName, issuer) {
  const { bundleFromJSON } = require('@sigstore/bundle');
  const { TrustedRoot } = require('@sigstore/protobuf-specs');
  const { Verifier, toTrustMaterial, toSignedEntity } = require('@sigstore/verify');
  const bundle = bundleFromJSON(JSON.parse(readFileSync(bundlePath, 'utf8')));
  const material = toTrustMaterial(TrustedRoot.fromJSON(JSON.parse(readFileSync(root, 'utf8'))));
  const artifact = readFileSync(artifactPath);
  const verifier = new Verifier(material, { tlogThreshold: 1, ctlogThreshold: 1, timestampThreshold: 1 });
  const entity = toSignedEntity(bundle, bundle.content.$case === 'messageSignature' ? artifact : undefined);
  verifier.verify(entity, { subjectAlternativeName, extensions: { issuer } });
  if (bundle.content.$case === 'dsseEnvelope') {
    // sigstore-js leaves this to its caller.
    const { subject } = JSON.parse(bundle.content.dsseEnvelope.payload);
    const sha256 = createHash('sha256').update(artifact).digest('hex');
    if (subject[0].digest.sha256 !== sha256) throw new Error('the statement is about another artifact');
  }
}

try {
  await (verb === 'sign' ? sign(...rest) : verify(...rest));
} catch (error) {
  console.error(error.code ?? '', error.message, error.cause?.message ?? '');
  process.exitCode = 1;
}
