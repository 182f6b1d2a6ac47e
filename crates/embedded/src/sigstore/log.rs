//! The log: entries that are only ever added, and a checkpoint over all of them.
//!
//! An entry, the nodes that it completes and the checkpoint that covers it are one transaction, so after a kill the
//! log is whole, with the entry or without it. A checkpoint is only signed as an extension of one that was signed
//! here: whoever changes the database without the key cannot make the service vouch for it.

use std::sync::Arc;

use jiff::Timestamp;
use protected_model::time::numeric_date;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    checkpoint::Head,
    error::AuthorityError,
    keys::{Keys, LogName},
    merkle::{self, Hash, Nodes},
};
use crate::{
    audit::opened,
    store::{Store, StoreError},
    x509::{Key, PublicKey},
};

/// Each entry by its index: when it came, in seconds since 1970, and its canonical body.
const ENTRIES: TableDefinition<u64, (u64, &[u8])> = TableDefinition::new("sigstore_log");
/// The hashes of complete subtrees by level and index.
const NODES: TableDefinition<(u8, u64), &[u8; 32]> = TableDefinition::new("sigstore_log_nodes");
/// The index of each entry by the hash of its leaf.
const BY_LEAF: TableDefinition<&[u8; 32], u64> = TableDefinition::new("sigstore_log_leaves");
/// One row: the size, the root, and the checkpoint as it was signed.
const HEAD: TableDefinition<(), (u64, &[u8; 32], &str)> = TableDefinition::new("sigstore_log_head");

/// What stands at index 0.
///
/// Protocol buffers leave out a number that is zero and a list that is empty, and sigstore-python wants both: no
/// client ever gets the first entry, or a tree of one.
const GENESIS: &[u8] = br#"{"apiVersion":"0.0.1","kind":"genesis","spec":{}}"#;

/// An entry with what shows that it is in the log.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) index: u64,
    pub(super) body: Vec<u8>,
    /// Seconds since 1970.
    pub(super) integrated: u64,
    pub(super) proof: Vec<Hash>,
    pub(super) checkpoint: Signed,
}

/// A head as it was signed.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) head: Head,
    pub(super) note: String,
}

/// What came of an entry.
pub(super) enum Added {
    New(Logged),
    /// It is there already.
    Known(Logged),
    /// The log is not what was signed.
    Broken(&'static str),
}

/// What the log is signed with, as it was when a transaction was asked for.
struct Signer {
    name: LogName,
    keys: Vec<PublicKey>,
}

/// Begins the log where there is none, and signs its head with the key of now where another one did.
pub(super) async fn begin(store: &Store, keys: Arc<Keys>, now: Timestamp) -> Result<(), AuthorityError> {
    let signer = Signer { name: keys.log.clone(), keys: keys.log_keys() };
    let begun = store.write(move |txn| {
        let Some(signed) = head(&txn.open_table(HEAD)?)? else {
            return Ok(match push(txn, &signer, &keys.signing.log, GENESIS, now)? {
                Added::Broken(what) => Err(what),
                Added::New(_) | Added::Known(_) => Ok(()),
            });
        };
        if let Err(what) = check(&signed, &signer, &txn.open_table(NODES)?) {
            return Ok(Err(what));
        }
        if signed.head.signer(signer.name.origin(), &signed.note, &signer.keys[..1]).is_none() {
            let note = sign(&signed.head, &signer, &keys.signing.log)?;
            txn.open_table(HEAD)?.insert((), (signed.head.size, &signed.head.root, note.as_str()))?;
        }
        Ok(Ok(()))
    });
    begun.await?.map_err(AuthorityError::Log)
}

/// Adds an entry, unless it is there.
pub(super) async fn add(
    store: &Store,
    keys: Arc<Keys>,
    body: Vec<u8>,
    now: Timestamp,
) -> Result<Added, StoreError> {
    let signer = Signer { name: keys.log.clone(), keys: keys.log_keys() };
    store.write(move |txn| push(txn, &signer, &keys.signing.log, &body, now)).await
}

fn push(
    txn: &WriteTransaction,
    signer: &Signer,
    key: &Key,
    body: &[u8],
    now: Timestamp,
) -> Result<Added, StoreError> {
    let mut entries = txn.open_table(ENTRIES)?;
    let mut nodes = txn.open_table(NODES)?;
    let mut by_leaf = txn.open_table(BY_LEAF)?;
    let mut heads = txn.open_table(HEAD)?;
    let before = head(&heads)?;
    if let Some(signed) = &before {
        if let Err(what) = check(signed, signer, &nodes) {
            return Ok(Added::Broken(what));
        }
    } else if entries.last()?.is_some() {
        return Ok(Added::Broken("it has entries and no checkpoint"));
    }
    let leaf = merkle::leaf(body);
    let known = by_leaf.get(&leaf)?.map(|index| index.value());
    if let (Some(index), Some(signed)) = (known, &before) {
        return Ok(match logged(&entries, &nodes, signed, index)? {
            Some(logged) => Added::Known(logged),
            None => Added::Broken("an entry of it is missing"),
        });
    }
    let size = before.map_or(0, |signed| signed.head.size);
    for (level, index, hash) in merkle::added(&Stored(&nodes), size, leaf)? {
        nodes.insert((level, index), &hash)?;
    }
    entries.insert(size, (numeric_date(now), body))?;
    by_leaf.insert(&leaf, size)?;
    let head = Head { size: size + 1, root: merkle::root(&Stored(&nodes), size + 1)? };
    let signed = Signed { head, note: sign(&head, signer, key)? };
    heads.insert((), (head.size, &head.root, signed.note.as_str()))?;
    let logged = logged(&entries, &nodes, &signed, size)?;
    Ok(logged.map_or(Added::Broken("an entry of it is missing"), Added::New))
}

/// A key that does not sign is a machine without random numbers: nothing is written.
fn sign(head: &Head, signer: &Signer, key: &Key) -> Result<String, StoreError> {
    head.sign(signer.name.origin(), key).map_err(|_| StoreError::GivenUp)
}

/// Checks that a head is one that was signed here, and that the stored tree is the one that it covers.
fn check(
    signed: &Signed,
    signer: &Signer,
    nodes: &impl ReadableTable<(u8, u64), &'static [u8; 32]>,
) -> Result<(), &'static str> {
    if signed.head.signer(signer.name.origin(), &signed.note, &signer.keys).is_none() {
        return Err("its checkpoint was not signed here");
    }
    match merkle::root(&Stored(nodes), signed.head.size) {
        Ok(root) if root == signed.head.root => Ok(()),
        Ok(_) => Err("its tree has another root than its checkpoint"),
        Err(_) => Err("a part of its tree is missing"),
    }
}

fn head(
    heads: &impl ReadableTable<(), (u64, &'static [u8; 32], &'static str)>,
) -> Result<Option<Signed>, StoreError> {
    Ok(heads.get(())?.map(|row| {
        let (size, root, note) = row.value();
        Signed { head: Head { size, root: *root }, note: note.to_owned() }
    }))
}

fn logged(
    entries: &impl ReadableTable<u64, (u64, &'static [u8])>,
    nodes: &impl ReadableTable<(u8, u64), &'static [u8; 32]>,
    signed: &Signed,
    index: u64,
) -> Result<Option<Logged>, StoreError> {
    let Some(row) = entries.get(index)?.filter(|_| index < signed.head.size) else { return Ok(None) };
    let (integrated, body) = row.value();
    Ok(Some(Logged {
        index,
        body: body.to_vec(),
        integrated,
        proof: merkle::inclusion(&Stored(nodes), index, signed.head.size)?,
        checkpoint: signed.clone(),
    }))
}

/// The nodes of a table.
struct Stored<'a, T>(&'a T);

impl<T: ReadableTable<(u8, u64), &'static [u8; 32]>> Nodes for Stored<'_, T> {
    type Error = StoreError;

    fn node(&self, level: u8, index: u64) -> Result<Hash, StoreError> {
        let node = self.0.get((level, index))?.map(|hash| *hash.value());
        node.ok_or_else(|| StoreError::Corrupt(format!("no node {level}/{index} of the log's tree")))
    }
}

/// Returns the last checkpoint.
pub(super) fn checkpoint(txn: &ReadTransaction) -> Result<Option<Signed>, StoreError> {
    match opened(txn.open_table(HEAD))? {
        Some(heads) => head(&heads),
        None => Ok(None),
    }
}

/// Returns the entry at an index with its proof in the log as it is now.
pub(super) fn entry(txn: &ReadTransaction, index: u64) -> Result<Option<Logged>, StoreError> {
    let Some(signed) = checkpoint(txn)? else { return Ok(None) };
    logged(&txn.open_table(ENTRIES)?, &txn.open_table(NODES)?, &signed, index)
}

/// Returns the index of the entry whose leaf has this hash.
pub(super) fn index_of(txn: &ReadTransaction, leaf: &Hash) -> Result<Option<u64>, StoreError> {
    match opened(txn.open_table(BY_LEAF))? {
        Some(table) => Ok(table.get(leaf)?.map(|index| index.value())),
        None => Ok(None),
    }
}

/// Returns what shows that the log of `old` entries is the beginning of the one of `size`, and the root of the
/// latter, for `0 < old <= size` and `size` no more than there are.
pub(super) fn consistency(
    txn: &ReadTransaction,
    old: u64,
    size: u64,
) -> Result<(Vec<Hash>, Hash), StoreError> {
    let nodes = txn.open_table(NODES)?;
    Ok((merkle::consistency(&Stored(&nodes), old, size)?, merkle::root(&Stored(&nodes), size)?))
}

/// Reads the whole log: every entry is the leaf that its tree has, and the tree is the one that was signed. Returns
/// how many entries there are.
pub(super) fn verify(txn: &ReadTransaction, keys: &Keys) -> Result<u64, StoreError> {
    let broken = |what: &str| StoreError::Corrupt(format!("a log that was changed: {what}"));
    let Some(signed) = checkpoint(txn)? else {
        return match opened(txn.open_table(ENTRIES))? {
            Some(entries) if entries.first()?.is_some() => Err(broken("it has entries and no checkpoint")),
            _ => Ok(0),
        };
    };
    let signer = Signer { name: keys.log.clone(), keys: keys.log_keys() };
    let (entries, nodes) = (txn.open_table(ENTRIES)?, txn.open_table(NODES)?);
    check(&signed, &signer, &nodes).map_err(broken)?;
    let mut size = 0;
    for row in entries.iter()? {
        let (index, row) = row?;
        if index.value() != size {
            return Err(broken(&format!("entry {size} is missing")));
        }
        for (level, index, hash) in merkle::added(&Stored(&nodes), size, merkle::leaf(row.value().1))? {
            if Stored(&nodes).node(level, index)? != hash {
                return Err(broken(&format!("entry {size} is not what was logged")));
            }
        }
        size += 1;
    }
    match size == signed.head.size {
        true => Ok(size),
        false => Err(broken(&format!("it has {size} entries, and {} were signed", signed.head.size))),
    }
}

#[cfg(test)]
mod tests {
    use sigstore_merkle::{hash_leaf, verify_consistency_proof, verify_inclusion_proof};
    use sigstore_types::Sha256Hash;

    use super::{super::authority::Authority, *};

    struct Bench {
        authority: Authority,
        store: Store,
        _folder: tempfile::TempDir,
    }

    impl Bench {
        async fn with(entries: u64) -> Self {
            let folder = tempfile::tempdir().expect("folder");
            let url = "http://127.0.0.1:1/".parse().expect("url");
            let authority =
                Authority::open(&folder.path().join("keys"), &url, Timestamp::now()).expect("authority");
            let store = Store::open(&folder.path().join("data")).expect("store");
            begin(&store, authority.keys(), Timestamp::now()).await.expect("begun");
            let bench = Self { authority, store, _folder: folder };
            for number in 0..entries {
                assert!(matches!(bench.add(number).await, Added::New(_)));
            }
            bench
        }

        async fn add(&self, number: u64) -> Added {
            let body = number.to_string().into_bytes();
            add(&self.store, self.authority.keys(), body, Timestamp::now()).await.expect("written")
        }

        /// Changes the database as somebody could who may write it and has no key.
        async fn tamper(
            &self,
            change: impl FnOnce(&WriteTransaction) -> Result<(), StoreError> + Send + 'static,
        ) {
            self.store.write(change).await.expect("written");
        }

        fn verify(&self) -> Result<u64, String> {
            let txn = self.store.read().expect("read");
            verify(&txn, &self.authority.keys()).map_err(|error| error.to_string())
        }
    }

    #[tokio::test]
    async fn what_is_added_is_shown_and_only_added_to() {
        let bench = Bench::with(0).await;
        let mut before: Option<Signed> = None;
        for number in 0..20 {
            let Added::New(logged) = bench.add(number).await else { panic!("{number}") };
            let head = logged.checkpoint.head;
            assert_eq!((logged.index, head.size), (number + 1, number + 2));
            let root = Sha256Hash::new(head.root);
            let proof: Vec<_> = logged.proof.iter().map(|hash| Sha256Hash::new(*hash)).collect();
            verify_inclusion_proof(&hash_leaf(&logged.body), logged.index, head.size, &proof, &root)
                .expect("included");
            if let Some(before) = before {
                let txn = bench.store.read().expect("read");
                let (path, _) = consistency(&txn, before.head.size, head.size).expect("proof");
                let path: Vec<_> = path.iter().map(|hash| Sha256Hash::new(*hash)).collect();
                let old = Sha256Hash::new(before.head.root);
                verify_consistency_proof(before.head.size, head.size, &path, &old, &root)
                    .expect("consistent");
            }
            before = Some(logged.checkpoint);
        }
        assert_eq!(bench.verify(), Ok(21));
        let Added::Known(again) = bench.add(7).await else { panic!("known") };
        assert_eq!((again.index, again.body.as_slice()), (8, b"7".as_slice()));
        assert_eq!(bench.verify(), Ok(21));
    }

    #[tokio::test]
    async fn an_entry_that_was_changed_is_found() {
        for (change, expected) in [
            (1, "entry 3 is not what was logged"),
            (2, "entry 3 is missing"),
            (3, "it has 7 entries, and 8 were signed"),
            (4, "it has 9 entries, and 8 were signed"),
        ] {
            let bench = Bench::with(7).await;
            bench
                .tamper(move |txn| {
                    let mut entries = txn.open_table(ENTRIES)?;
                    match change {
                        1 => drop(entries.insert(3, (0, b"else".as_slice()))?),
                        2 => drop(entries.remove(3)?),
                        3 => drop(entries.remove(7)?),
                        _ => {
                            entries.insert(8, (0, b"more".as_slice()))?;
                            let leaf = merkle::leaf(b"more");
                            txn.open_table(NODES)?.insert((0, 8), &leaf)?;
                        }
                    }
                    Ok(())
                })
                .await;
            let error = bench.verify().expect_err("found");
            assert!(error.contains(expected), "{change}: {error}");
        }
    }

    #[tokio::test]
    async fn nothing_is_added_to_a_log_that_was_not_signed_here() {
        for (change, expected) in [
            (1, "another root"),
            (2, "a part of its tree is missing"),
            (3, "not signed here"),
            (4, "not signed here"),
            (5, "no checkpoint"),
            (6, "not signed here"),
        ] {
            let bench = Bench::with(7).await;
            bench
                .tamper(move |txn| {
                    let mut nodes = txn.open_table(NODES)?;
                    let mut heads = txn.open_table(HEAD)?;
                    let signed = head(&heads)?.expect("head");
                    let Head { size, root } = signed.head;
                    match change {
                        // The whole tree of eight.
                        1 => drop(nodes.insert((3, 0), &[7; 32])?),
                        2 => drop(nodes.remove((3, 0))?),
                        3 => drop(heads.insert((), (size - 1, &root, signed.note.as_str()))?),
                        4 => drop(heads.insert((), (size, &[7; 32], signed.note.as_str()))?),
                        5 => drop(heads.remove(())?),
                        // Another key's checkpoint of the same tree.
                        _ => {
                            let note =
                                signed.head.sign("127.0.0.1:1/sigstore", &Key::generate().expect("key"));
                            heads.insert((), (size, &root, note.expect("signed").as_str()))?;
                        }
                    }
                    Ok(())
                })
                .await;
            let Added::Broken(what) = bench.add(100).await else { panic!("{change} went on") };
            assert!(what.contains(expected), "{change}: {what}");
            assert!(bench.verify().expect_err("found").contains(expected));
            let begun = begin(&bench.store, bench.authority.keys(), Timestamp::now()).await;
            assert!(matches!(begun, Err(AuthorityError::Log(_))));
        }
    }

    #[tokio::test]
    async fn a_new_key_signs_the_head_and_the_old_one_is_not_forgotten() {
        let bench = Bench::with(3).await;
        let (before, now) = (bench.authority.keys(), Timestamp::now());
        bench.authority.rotate(&bench.store, now).await.expect("not due");
        assert!(bench.authority.keys().log_keys() == before.log_keys());
        let later = protected_model::time::after(now, super::super::keys::ROTATE_SECONDS);
        bench.authority.rotate(&bench.store, later).await.expect("rotated");
        let keys = bench.authority.keys().log_keys();
        assert!(keys.len() == 2 && keys[1] == before.log_keys()[0] && keys[0] != keys[1]);
        let signed = checkpoint(&bench.store.read().expect("read")).expect("read").expect("head");
        assert!(signed.head.signer("127.0.0.1:1/sigstore", &signed.note, &keys[..1]).is_some());
        assert!(matches!(bench.add(3).await, Added::New(_)));
        assert_eq!(bench.verify(), Ok(5));
        // What is on disk is what signs.
        let folder = bench._folder.path().join("keys");
        let url = "http://127.0.0.1:2/".parse().expect("url");
        let again = Authority::open(&folder, &url, later).expect("authority");
        assert!(again.keys().log_keys() == keys);
        assert_eq!(again.keys().log.url, "http://127.0.0.1:1/sigstore");
        // A service that stood still for long starts with new keys.
        let much_later = protected_model::time::after(later, super::super::keys::ROTATE_SECONDS);
        let again = Authority::open(&folder, &url, much_later).expect("authority");
        assert!(again.keys().log_keys()[1..] == keys && again.keys().past.len() == 2);
        let kept = std::fs::read_to_string(folder.join("sigstore.json")).expect("kept");
        assert!(
            !kept.contains(&before.signing.log.keep()) && !kept.contains(&before.signing.issuer.key.keep())
        );
    }
}
