//! The log: entries that are only ever added, and a checkpoint over all of them.
//!
//! An entry, the nodes that it completes and the checkpoint that covers it are one transaction, so after a kill the
//! log is whole, with the entry or without it. A checkpoint is only signed as an extension of one that was signed
//! here: whoever changes the database without the key cannot make the service vouch for it.

use jiff::Timestamp;
use protected_model::time::numeric_date;
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};

use super::{
    Authority, AuthorityError,
    checkpoint::Head,
    key::{Key, PublicKey},
    keys::{Keys, LogName},
    merkle::{self, Hash, Nodes},
};
use crate::{
    audit::opened,
    store::{Store, StoreError},
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
pub(super) async fn begin(
    store: &Store,
    authority: &Authority,
    now: Timestamp,
) -> Result<(), AuthorityError> {
    let keys = authority.keys();
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
    authority: &Authority,
    body: Vec<u8>,
    now: Timestamp,
) -> Result<Added, StoreError> {
    let keys = authority.keys();
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
    let Some(signed) = checkpoint(txn)? else { return Ok(0) };
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
