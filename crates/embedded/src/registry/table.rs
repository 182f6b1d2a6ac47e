//! Packages and versions as rows.

use std::{collections::BTreeMap, fmt};

use protected_model::{
    name::{PackageName, TenantId},
    version::PackageVersion,
};
use redb::{ReadTransaction, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};

use super::row::{PackageRow, VersionRow};
use crate::{audit::opened, config::Repository, store::StoreError};

type PackageTable = TableDefinition<'static, (&'static str, &'static str), &'static [u8]>;
type VersionTable = TableDefinition<'static, (&'static str, &'static str, &'static str), &'static [u8]>;

/// Every [`PackageRow`] by its place and name.
const PACKAGES: PackageTable = TableDefinition::new("registry_packages");
/// Every [`VersionRow`] by its place, name and version.
const VERSIONS: VersionTable = TableDefinition::new("registry_versions");
/// The rows of versions that were taken back. Attack: take a version back, publish other bytes under its number,
/// and everybody who pinned it gets these. A number once used stays used.
const REMOVED: VersionTable = TableDefinition::new("registry_removed_versions");

/// A package in a repository of a tenant.
///
/// The tenant is part of the key: a repository that the configuration gives to another tenant does not show what
/// the one before it has stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    /// `<tenant>/<repository>`; neither has a `/` in it.
    repository: String,
    package: PackageName,
}

impl Place {
    pub(crate) fn new(tenant: &TenantId, repository: &Repository, package: &PackageName) -> Self {
        Self { repository: format!("{tenant}/{}", repository.name), package: package.clone() }
    }

    pub(crate) fn package(&self) -> &PackageName {
        &self.package
    }

    /// Returns what a version is called where its blobs' references are counted.
    pub(crate) fn reference(&self, version: &PackageVersion) -> String {
        format!("version {self}@{version}")
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.repository, self.package)
    }
}

/// A package with all its versions.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) package: PackageRow,
    pub(crate) versions: BTreeMap<PackageVersion, VersionRow>,
}

/// Reads a package whole.
pub(crate) fn read(txn: &ReadTransaction, place: &Place) -> Result<Option<Stored>, StoreError> {
    let Some(packages) = opened(txn.open_table(PACKAGES))? else { return Ok(None) };
    let Some(versions) = opened(txn.open_table(VERSIONS))? else { return Ok(None) };
    let Some(package) = package_in(&packages, place)? else { return Ok(None) };
    Ok(Some(Stored { package, versions: versions_in(&versions, place)? }))
}

/// What decides whether a version may be added.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// The package, when it has a version.
    pub(crate) package: Option<PackageRow>,
    /// The version, when it is there.
    pub(crate) version: Option<VersionRow>,
    /// Whether the version was taken back.
    pub(crate) removed: bool,
}

/// Reads how a version stands.
pub(crate) fn standing(
    txn: &ReadTransaction,
    place: &Place,
    version: &PackageVersion,
) -> Result<Standing, StoreError> {
    let mut standing = Standing::default();
    if let Some(packages) = opened(txn.open_table(PACKAGES))? {
        standing.package = package_in(&packages, place)?;
    }
    if let Some(versions) = opened(txn.open_table(VERSIONS))? {
        standing.version = version_in(&versions, place, version)?;
    }
    if let Some(removed) = opened(txn.open_table(REMOVED))? {
        standing.removed = version_in(&removed, place, version)?.is_some();
    }
    Ok(standing)
}

/// Reads how a version stands, in the transaction that will change it.
pub(crate) fn standing_to_change(
    txn: &WriteTransaction,
    place: &Place,
    version: &PackageVersion,
) -> Result<Standing, StoreError> {
    Ok(Standing {
        package: package_in(&txn.open_table(PACKAGES)?, place)?,
        version: version_in(&txn.open_table(VERSIONS)?, place, version)?,
        removed: version_in(&txn.open_table(REMOVED)?, place, version)?.is_some(),
    })
}

/// Returns whether a tenant has a version published, in any repository.
pub(crate) fn is_published(
    txn: &WriteTransaction,
    tenant: &TenantId,
    package: &PackageName,
    version: &PackageVersion,
) -> Result<bool, StoreError> {
    let versions = txn.open_table(VERSIONS)?;
    let version = version.to_string();
    let prefix = format!("{tenant}/");
    // From one repository of the tenant to the next.
    let mut from = prefix.clone();
    loop {
        let next = versions.range((from.as_str(), "", "")..)?.next().transpose()?;
        let Some(repository) = next.map(|(key, _)| key.value().0.to_owned()) else { return Ok(false) };
        if !repository.starts_with(&prefix) {
            return Ok(false);
        }
        if versions.get((repository.as_str(), package.as_str(), version.as_str()))?.is_some() {
            return Ok(true);
        }
        from = repository + "\0";
    }
}

/// A version in its place.
pub(crate) struct Placed {
    pub(crate) place: Place,
    pub(crate) version: PackageVersion,
    pub(crate) row: VersionRow,
}

/// Returns every version that has no signature.
pub(crate) fn unsigned(txn: &ReadTransaction) -> Result<Vec<Placed>, StoreError> {
    let Some(versions) = opened(txn.open_table(VERSIONS))? else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for row in versions.iter()? {
        let (key, row) = row?;
        let (repository, package, version) = key.value();
        let corrupt = || StoreError::Corrupt(format!("a version `{package}@{version}` of {repository}"));
        let package = package.parse().map_err(|_| corrupt())?;
        let place = Place { repository: repository.to_owned(), package };
        let row: VersionRow = parse(&place, row.value())?;
        if row.signature.is_none() {
            found.push(Placed { version: version.parse().map_err(|_| corrupt())?, place, row });
        }
    }
    Ok(found)
}

/// Writes a package's row.
pub(crate) fn put_package(txn: &WriteTransaction, place: &Place, row: &PackageRow) -> Result<(), StoreError> {
    txn.open_table(PACKAGES)?.insert(key(place), json(row)?.as_slice())?;
    Ok(())
}

/// Writes a version's row.
pub(crate) fn put_version(
    txn: &WriteTransaction,
    place: &Place,
    version: &PackageVersion,
    row: &VersionRow,
) -> Result<(), StoreError> {
    let (repository, package) = key(place);
    let version = version.to_string();
    txn.open_table(VERSIONS)?.insert((repository, package, version.as_str()), json(row)?.as_slice())?;
    Ok(())
}

/// Reads a package's row before it is changed.
pub(crate) fn package(txn: &WriteTransaction, place: &Place) -> Result<Option<PackageRow>, StoreError> {
    package_in(&txn.open_table(PACKAGES)?, place)
}

/// Reads a package's versions before they are changed.
pub(crate) fn versions(
    txn: &WriteTransaction,
    place: &Place,
) -> Result<BTreeMap<PackageVersion, VersionRow>, StoreError> {
    versions_in(&txn.open_table(VERSIONS)?, place)
}

/// Reads one version before it is written.
pub(crate) fn version(
    txn: &WriteTransaction,
    place: &Place,
    version: &PackageVersion,
) -> Result<Option<VersionRow>, StoreError> {
    version_in(&txn.open_table(VERSIONS)?, place, version)
}

/// Takes a version back: its number stays used.
pub(crate) fn remove_version(
    txn: &WriteTransaction,
    place: &Place,
    version: &PackageVersion,
) -> Result<(), StoreError> {
    let (repository, package) = key(place);
    let version = version.to_string();
    let key = (repository, package, version.as_str());
    if let Some(row) = txn.open_table(VERSIONS)?.remove(key)? {
        txn.open_table(REMOVED)?.insert(key, row.value())?;
    }
    Ok(())
}

/// Removes a package's row. Its versions are removed one by one.
pub(crate) fn remove_package(txn: &WriteTransaction, place: &Place) -> Result<(), StoreError> {
    txn.open_table(PACKAGES)?.remove(key(place))?;
    Ok(())
}

fn key(place: &Place) -> (&str, &str) {
    (&place.repository, place.package.as_str())
}

fn package_in(
    table: &impl ReadableTable<(&'static str, &'static str), &'static [u8]>,
    place: &Place,
) -> Result<Option<PackageRow>, StoreError> {
    table.get(key(place))?.map(|row| parse(place, row.value())).transpose()
}

fn version_in(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static [u8]>,
    place: &Place,
    version: &PackageVersion,
) -> Result<Option<VersionRow>, StoreError> {
    let (repository, package) = key(place);
    let version = version.to_string();
    table.get((repository, package, version.as_str()))?.map(|row| parse(place, row.value())).transpose()
}

fn versions_in(
    table: &impl ReadableTable<(&'static str, &'static str, &'static str), &'static [u8]>,
    place: &Place,
) -> Result<BTreeMap<PackageVersion, VersionRow>, StoreError> {
    let (repository, package) = key(place);
    let mut versions = BTreeMap::new();
    for row in table.range((repository, package, "")..)? {
        let (key, row) = row?;
        let (own_repository, own_package, version) = key.value();
        if (own_repository, own_package) != (repository, package) {
            break;
        }
        let version =
            version.parse().map_err(|_| StoreError::Corrupt(format!("a version `{version}` of {place}")))?;
        versions.insert(version, parse(place, row.value())?);
    }
    Ok(versions)
}

fn parse<T: DeserializeOwned>(place: &Place, row: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(row).map_err(|error| StoreError::Corrupt(format!("a row of {place}: {error}")))
}

fn json(row: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(row).map_err(|error| StoreError::Corrupt(error.to_string()))
}
