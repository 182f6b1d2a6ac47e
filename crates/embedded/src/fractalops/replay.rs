//! The ledger of ID tokens that were exchanged: each is good for one exchange.

use jiff::Timestamp;
use protected_model::time::numeric_date;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use crate::{
    audit::opened,
    store::{Store, StoreError},
};

/// Exchanged ID tokens with the time until which they are remembered, in seconds since 1970.
const EXCHANGED: TableDefinition<&str, u64> = TableDefinition::new("exchanged_id_tokens");

/// Notes an ID token within the transaction that mints for it. Returns false, having changed nothing, when it
/// was there before.
pub(crate) fn claim(txn: &WriteTransaction, token: &str, until: u64) -> Result<bool, StoreError> {
    let mut exchanged = txn.open_table(EXCHANGED)?;
    if exchanged.get(token)?.is_some() {
        return Ok(false);
    }
    exchanged.insert(token, until)?;
    Ok(true)
}

/// Forgets ID tokens that no longer verify anyhow.
pub(crate) async fn sweep(store: &Store, now: Timestamp) -> Result<(), StoreError> {
    let now = numeric_date(now);
    {
        let txn = store.read()?;
        let Some(exchanged) = opened(txn.open_table(EXCHANGED))? else { return Ok(()) };
        let mut over = false;
        for row in exchanged.iter()? {
            over |= row?.1.value() < now;
        }
        if !over {
            return Ok(());
        }
    }
    store.write(move |txn| Ok(txn.open_table(EXCHANGED)?.retain(|_, until| until >= now)?)).await
}
