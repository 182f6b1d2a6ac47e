console.log(import.meta.url.endsWith('esm_import_meta.mjs'), typeof import.meta, typeof require, this);
