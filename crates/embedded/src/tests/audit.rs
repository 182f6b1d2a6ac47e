//! Who may read the audit trail, and that it is one chain.

use protected_model::{api::audit::AuditPage, digest::Sha256};
use redb::{Database, ReadableTable, TableDefinition};

use super::service::{Service, chain_length, refused, wanted};
use crate::store::Store;

#[tokio::test]
async fn a_session_sees_its_projects_and_the_operator_sees_all() {
    let service = Service::start().await;
    let session = service.session("release").await;
    let rival = service.session("rival").await;
    service.mint(&session, &wanted("@acme/plain", "install")).await;
    service.mint(&rival, &wanted("@rival/core", "install")).await;
    let page = async |path: &str, bearer| {
        let response = service.get(path, bearer).await;
        assert_eq!(response.status, 200, "{:?}", response.body());
        response.json::<AuditPage>().expect("page")
    };
    let own = page("v1/audit/events", &session).await.items;
    assert_eq!(own.len(), 1);
    assert_eq!(own[0].target.package_name.as_ref().expect("package").as_str(), "@acme/plain");
    let operator = service.operator();
    assert_eq!(page("v1/audit/events?tenant_id=rival", &operator).await.items.len(), 2);
    refused(&service.get("v1/audit/events?tenant_id=rival", &session).await, 403, "project_not_entitled");
    refused(&service.get("v1/audit/events?project_slug=other", &session).await, 403, "project_not_entitled");
    refused(&service.get("v1/audit/events?cursor=x", &session).await, 400, "invalid_request");
    let nobody = protected_model::secret::AccessToken::new("0".repeat(64));
    refused(&service.get("v1/audit/events", &nobody).await, 401, "unauthenticated");

    let all = page("v1/audit/events", &operator).await.items;
    let mut paged = Vec::new();
    let mut path = "v1/audit/events?limit=3".to_owned();
    loop {
        let part = page(&path, &operator).await;
        assert!(part.items.len() <= 3);
        paged.extend(part.items);
        match part.next_cursor {
            Some(cursor) => path = format!("v1/audit/events?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
    assert_eq!(all[0].prev_hash, Sha256::from_bytes([0; 32]));
    for pair in all.windows(2) {
        assert_eq!(pair[1].prev_hash, pair[0].hash);
    }
}

#[tokio::test]
async fn a_changed_event_breaks_the_chain() {
    const EVENTS: TableDefinition<u64, (&[u8; 32], &[u8])> = TableDefinition::new("audit_events");
    let service = Service::start().await;
    let session = service.session("release").await;
    for _ in 0..4 {
        service.mint(&session, &wanted("@acme/plain", "install")).await;
    }
    let ended = service.stop().await;
    let data = ended.path().join("data");
    assert_eq!(chain_length(&data), 5);
    type Change = fn(&mut Vec<(u64, [u8; 32], Vec<u8>)>);
    let changes: [(&str, Change); 4] = [
        ("changed", |rows| {
            rows[2].2 = String::from_utf8_lossy(&rows[2].2).replace("plain", "other").into_bytes()
        }),
        ("left out", |rows| drop(rows.remove(1))),
        ("exchanged", |rows| {
            let first = rows[1].clone();
            rows[1] = (1, rows[2].1, rows[2].2.clone());
            rows[2] = (2, first.1, first.2);
        }),
        ("its hash alone", |rows| rows[3].1[0] ^= 1),
    ];
    for (what, change) in changes {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("state.redb");
        std::fs::copy(data.join("state.redb"), &file).expect("copy");
        {
            let database = Database::open(&file).expect("open");
            let txn = database.begin_write().expect("txn");
            {
                let mut table = txn.open_table(EVENTS).expect("table");
                let mut rows: Vec<_> = table
                    .iter()
                    .expect("rows")
                    .map(|row| row.expect("row"))
                    .map(|(number, row)| (number.value(), *row.value().0, row.value().1.to_vec()))
                    .collect();
                table.retain(|_, _| false).expect("cleared");
                change(&mut rows);
                for (number, hash, json) in rows {
                    table.insert(number, (&hash, json.as_slice())).expect("inserted");
                }
            }
            txn.commit().expect("committed");
        }
        let store = Store::open(folder.path()).expect("store");
        let broken = crate::audit::verify_chain(&store.read().expect("read"));
        assert!(broken.is_err(), "{what}: {broken:?}");
    }
}
