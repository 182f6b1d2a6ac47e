//! Who may get tokens for a Docker registry: plans say what, licences say who.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use protected_model::{
    name::{ProjectSlug, TenantId},
    oci::{RepositoryAction, RepositoryName},
};
use serde::Deserialize;
use toml::Spanned;

use super::{
    Config, People, Role,
    wrong::{Checked, wrong, wrong_at},
};

/// The registry that tokens are for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Oci {
    /// What the registry calls itself: `service` in its configuration, `aud` in the tokens.
    pub(crate) service: String,
    /// Ids of licences under which nobody gets a token any more.
    #[serde(default)]
    pub(crate) revoked_licences: BTreeSet<String>,
    #[serde(skip)]
    plans: BTreeMap<String, Plan>,
    #[serde(skip)]
    licences: Vec<Licence>,
}

/// What may be done in which repositories of a project.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) tenant_id: TenantId,
    pub(crate) project_slug: ProjectSlug,
    repositories: Vec<PlanRepository>,
}

/// A repository by its name, or all that lie below a path.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanRepository {
    #[serde(default)]
    name: Option<RepositoryName>,
    #[serde(default)]
    below: Option<RepositoryName>,
    actions: BTreeSet<RepositoryAction>,
}

/// Who has a plan.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Licence {
    pub(crate) id: String,
    /// The id of a plan.
    plan: String,
    /// Ids of trusted publishers, entitlements and customers.
    pub(crate) holders: Vec<String>,
    /// When it ends: from then on nobody gets a token under it, and no token of it is longer than it.
    #[serde(default)]
    pub(crate) until: Option<Timestamp>,
}

/// People of a customer. They get tokens for the registry, and nothing else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Customer {
    /// What licences call it.
    pub(crate) id: String,
    /// Whose customer it is.
    pub(crate) tenant_id: TenantId,
    /// The issuer of the people's tokens.
    pub(crate) issuer: String,
    /// The person, by `sub`.
    #[serde(default)]
    sub: Option<String>,
    /// Or the persons of a group, by one of `groups`.
    #[serde(default)]
    group: Option<String>,
}

impl Customer {
    /// Returns who they are.
    pub(crate) fn people(&self) -> People<'_> {
        People { issuer: &self.issuer, sub: self.sub.as_deref(), group: self.group.as_deref() }
    }
}

impl Plan {
    /// Returns what the plan allows in a repository: in exactly the one named, or in one below a path.
    pub(crate) fn allows(&self, name: &RepositoryName) -> BTreeSet<RepositoryAction> {
        let of = |it: &&PlanRepository| {
            it.name.as_ref() == Some(name)
                || it.below.as_ref().is_some_and(|path| path != name && name.is_at_or_below(path))
        };
        self.repositories.iter().filter(of).flat_map(|it| it.actions.iter().copied()).collect()
    }

    fn only_pulls(&self) -> bool {
        self.repositories.iter().all(|it| it.actions.iter().all(|action| *action == RepositoryAction::Pull))
    }
}

impl Oci {
    /// Returns the licences of a tenant, each with its plan.
    pub(crate) fn licences(&self, tenant: &TenantId) -> impl Iterator<Item = (&Licence, &Plan)> {
        self.licences
            .iter()
            .filter_map(|licence| Some((licence, self.plans.get(&licence.plan)?)))
            .filter(move |(_, plan)| plan.tenant_id == *tenant)
    }
}

/// The tables as they stand.
pub(super) struct Tables {
    pub(super) oci: Option<Spanned<Oci>>,
    pub(super) plans: Vec<Spanned<Plan>>,
    pub(super) licences: Vec<Spanned<Licence>>,
}

/// Checks the tables; `config` holds whom licences can name.
pub(super) fn check(config: &Config, tables: Tables) -> Checked<Option<Oci>> {
    let Tables { oci, plans, licences } = tables;
    let Some(entry) = oci else {
        let first = plans.first().map(|it| it.span()).or_else(|| licences.first().map(|it| it.span()));
        return match first {
            None => Ok(None),
            Some(at) => wrong_at(at.start, "[[oci_plan]] and [[oci_licence]] need [oci]"),
        };
    };
    let mut checked = Oci { plans: BTreeMap::new(), licences: Vec::new(), ..entry.get_ref().clone() };
    if checked.service.is_empty() || checked.service.contains(char::is_whitespace) {
        return wrong(&entry, "[oci] service: expected what the registry calls itself, without spaces");
    }
    for entry in plans {
        plan(config, &entry)?;
        let plan = entry.get_ref();
        if checked.plans.insert(plan.id.clone(), plan.clone()).is_some() {
            return wrong(&entry, format!("[[oci_plan]] id `{}` is there twice", plan.id));
        }
    }
    for entry in licences {
        let licence = entry.get_ref();
        if checked.licences.iter().any(|it| it.id == licence.id) {
            return wrong(&entry, format!("[[oci_licence]] id `{}` is there twice", licence.id));
        }
        holders(config, &checked, &entry)?;
        checked.licences.push(licence.clone());
    }
    // Attack: a misspelt id, so that a licence reads as revoked and is not.
    let known = |id: &&String| checked.licences.iter().any(|it| it.id == **id);
    if let Some(id) = checked.revoked_licences.iter().find(|id| !known(id)) {
        return wrong(&entry, format!("[oci] revoked_licences: `{id}` is no [[oci_licence]]"));
    }
    Ok(Some(checked))
}

fn plan(config: &Config, entry: &Spanned<Plan>) -> Checked {
    let Plan { id, tenant_id, project_slug, repositories } = entry.get_ref();
    if !config.projects.contains(&(tenant_id.clone(), project_slug.clone())) {
        let text =
            format!("[[oci_plan]] `{id}`: project `{project_slug}` is no [[project]] of `{tenant_id}`");
        return wrong(entry, text);
    }
    for it in repositories {
        let path = match (&it.name, &it.below) {
            (Some(path), None) | (None, Some(path)) => path,
            _ => {
                return wrong(
                    entry,
                    format!("[[oci_plan]] `{id}`: expected either `name` or `below` of each repository"),
                );
            }
        };
        if !path.is_of(tenant_id, project_slug) {
            let text = format!(
                "[[oci_plan]] `{id}`: repository `{path}` does not begin with `{tenant_id}/{project_slug}`"
            );
            return wrong(entry, text);
        }
        if it.actions.is_empty() {
            return wrong(entry, format!("[[oci_plan]] `{id}`: `actions` of `{path}` may not be empty"));
        }
    }
    if repositories.is_empty() {
        return wrong(entry, format!("[[oci_plan]] `{id}`: `repositories` may not be empty"));
    }
    Ok(())
}

/// Checks that every holder of a licence is somebody who may have its plan.
fn holders(config: &Config, oci: &Oci, entry: &Spanned<Licence>) -> Checked {
    let Licence { id, plan, holders, .. } = entry.get_ref();
    let Some(plan) = oci.plans.get(plan) else {
        return wrong(entry, format!("[[oci_licence]] `{id}`: plan `{plan}` is no [[oci_plan]]"));
    };
    if holders.is_empty() {
        return wrong(entry, format!("[[oci_licence]] `{id}`: `holders` may not be empty"));
    }
    for holder in holders {
        let publisher = config.publishers.iter().find(|it| it.id == *holder);
        let entitlement = config.entitlements.iter().find(|it| it.id == *holder);
        let customer = config.customers.iter().find(|it| it.id == *holder);
        let owner = publisher
            .map(|it| (&it.tenant_id, Some(&it.project_slug)))
            .or_else(|| entitlement.map(|it| (&it.tenant_id, Some(&it.project_slug))))
            .or_else(|| customer.map(|it| (&it.tenant_id, None)));
        let Some((tenant, project)) = owner else {
            let text = format!(
                "[[oci_licence]] `{id}`: holder `{holder}` is no [[trusted_publisher]], [[entitlement]] or [[customer]]"
            );
            return wrong(entry, text);
        };
        if *tenant != plan.tenant_id || project.is_some_and(|project| *project != plan.project_slug) {
            let text = format!(
                "[[oci_licence]] `{id}`: holder `{holder}` is of another project than plan `{}`",
                plan.id
            );
            return wrong(entry, text);
        }
        // By hand only maintainers write, here as for packages.
        let writes = publisher.is_some() || entitlement.is_some_and(|it| it.role == Role::Maintainer);
        if !writes && !plan.only_pulls() {
            let text = format!(
                "[[oci_licence]] `{id}`: plan `{}` lets more than `pull`, and holder `{holder}` is no publisher and no maintainer",
                plan.id
            );
            return wrong(entry, text);
        }
    }
    Ok(())
}
