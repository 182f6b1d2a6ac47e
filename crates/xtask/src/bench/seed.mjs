// Fills a registry for the benchmark: node seed.mjs REGISTRY TOKEN_FILE NAME VERSIONS BYTES
// One package, VERSIONS versions from 1.0.0 to 1.0.<n-1>, each a tarball of about BYTES random bytes.
import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";

const [registry, tokenFile, name, versions, bytes] = process.argv.slice(2);
const token = readFileSync(tokenFile, "utf8").trim();

function entry(path, content) {
  const header = Buffer.alloc(512);
  const put = (text, at) => header.write(text, at, "latin1");
  put(path, 0);
  put("0000644\0", 100);
  put("0000000\0", 108);
  put("0000000\0", 116);
  put(content.length.toString(8).padStart(11, "0") + "\0", 124);
  put("03560116604\0", 136);
  put("        ", 148);
  put("0", 156);
  put("ustar\x0000", 257);
  put(header.reduce((sum, byte) => sum + byte, 0).toString(8).padStart(6, "0") + "\0 ", 148);
  const padding = Buffer.alloc((512 - (content.length % 512)) % 512);
  return Buffer.concat([header, content, padding]);
}

for (let patch = 0; patch < Number(versions); patch += 1) {
  const version = `1.0.${patch}`;
  const manifest = { name, version, description: "A package for measuring", license: "MIT", main: "index.js" };
  const code = Buffer.from(`module.exports = "${randomBytes(Math.ceil(Number(bytes) / 2)).toString("hex")}";\n`);
  const tarball = gzipSync(
    Buffer.concat([
      entry("package/package.json", Buffer.from(JSON.stringify(manifest, null, 2))),
      entry("package/index.js", code),
      Buffer.alloc(1024),
    ]),
  );
  const base = name.split("/").pop();
  const file = `${name}-${version}.tgz`;
  const document = {
    _id: name,
    name,
    description: manifest.description,
    "dist-tags": { latest: version },
    versions: {
      [version]: {
        ...manifest,
        _id: `${name}@${version}`,
        dist: {
          integrity: `sha512-${createHash("sha512").update(tarball).digest("base64")}`,
          shasum: createHash("sha1").update(tarball).digest("hex"),
          tarball: `${registry}${name}/-/${base}-${version}.tgz`,
        },
      },
    },
    access: null,
    _attachments: {
      [file]: { content_type: "application/octet-stream", data: tarball.toString("base64"), length: tarball.length },
    },
  };
  const response = await fetch(registry + name.replace("/", "%2f"), {
    method: "PUT",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json" },
    body: JSON.stringify(document),
  });
  if (!response.ok) {
    console.error(`${name}@${version}: ${response.status} ${await response.text()}`);
    process.exit(1);
  }
}
