// Stands in for the public instance of Sigstore, which stock npm asks by name: a proxy that answers for its hosts alone.
// Its TUF repository is one of our own, which lists the trusted root given; its authority and its log are those of the
// service under test.
//
// Arguments: the certificate of the hosts and its key (PEM), npm's cache, whose root is seeded, trusted_root.json, and
// the base URL of the service. Prints the port that it listens on, and ends when its standard input does.
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createServer, request as ask } from "node:http";
import { createServer as createTlsServer } from "node:https";

const TUF = "tuf-repo-cdn.sigstore.dev";
const SERVICES = ["fulcio.sigstore.dev", "rekor.sigstore.dev"];
const [certificate, certificateKey, cache, trustedRoot, service] = process.argv.slice(2);

const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const key = {
  keytype: "ed25519",
  scheme: "ed25519",
  // The last 32 bytes of an Ed25519 SubjectPublicKeyInfo are the key.
  keyval: { public: publicKey.export({ type: "spki", format: "der" }).subarray(-32).toString("hex") },
};

/** Canonical JSON as TUF has it; nothing here needs an escape. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const members = Object.keys(value).sort().map((name) => `${JSON.stringify(name)}:${canonical(value[name])}`);
  return `{${members.join(",")}}`;
}

const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");
const keyid = sha256(canonical(key));
const role = { keyids: [keyid], threshold: 1 };

function signed(type, more) {
  const content = { _type: type, spec_version: "1.0.31", version: 1, expires: "2099-01-01T00:00:00Z", ...more };
  const sig = sign(null, Buffer.from(canonical(content)), privateKey).toString("hex");
  return Buffer.from(JSON.stringify({ signed: content, signatures: [{ keyid, sig }] }));
}

const target = readFileSync(trustedRoot);
const root = signed("root", {
  consistent_snapshot: true,
  keys: { [keyid]: key },
  roles: { root: role, timestamp: role, snapshot: role, targets: role },
});
const files = {
  "/timestamp.json": signed("timestamp", { meta: { "snapshot.json": { version: 1 } } }),
  "/1.snapshot.json": signed("snapshot", { meta: { "targets.json": { version: 1 } } }),
  "/1.targets.json": signed("targets", {
    targets: { "trusted_root.json": { length: target.length, hashes: { sha256: sha256(target) } } },
  }),
  [`/targets/${sha256(target)}.trusted_root.json`]: target,
};

const seeded = `${cache}/_tuf/${TUF}`;
mkdirSync(seeded, { recursive: true });
writeFileSync(`${seeded}/root.json`, root);

function answerAsRepository(request, answer) {
  const file = files[request.url];
  answer.writeHead(file ? 200 : 404, { "content-length": file?.length ?? 0 });
  answer.end(file);
}

function answerAsService(request, answer) {
  const { host, ...headers } = request.headers;
  const asked = ask(`${service}/sigstore${request.url}`, { method: request.method, headers }, (reply) => {
    answer.writeHead(reply.statusCode, reply.headers);
    reply.pipe(answer);
  });
  asked.on("error", () => answer.writeHead(502).end());
  request.pipe(asked);
}

const hosts = createTlsServer({ cert: readFileSync(certificate), key: readFileSync(certificateKey) }, (request, answer) => {
  const host = request.headers.host.replace(/:443$/, "");
  return SERVICES.includes(host) ? answerAsService(request, answer) : answerAsRepository(request, answer);
});

const proxy = createServer((_, answer) => answer.writeHead(403).end());
proxy.on("connect", (request, socket) => {
  if (![TUF, ...SERVICES].some((host) => request.url === `${host}:443`)) {
    socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    return;
  }
  socket.on("error", () => socket.destroy());
  socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
  hosts.emit("connection", socket);
});
proxy.listen(0, "127.0.0.1", () => console.log(proxy.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
