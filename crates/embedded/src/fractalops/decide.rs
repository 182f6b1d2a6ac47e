//! The decision: who may do what with a package, in one fixed order, from the configuration as it is now.
//!
//! Tenant, project, package, status, policy, kind of actor. The artifact comes last, where a token is minted. A
//! session's rights are never remembered: each decision walks the policies over its identity again.

use std::collections::BTreeSet;

use protected_model::{
    action::{Action, ArtifactPolicy},
    api::{
        audit::ActorKind,
        entitlement::PackageStatus,
        problem::{Code, RuleResult},
    },
    identity::RunIdentity,
    name::{EntitlementSnapshotId, PackageName, ProjectSlug, TenantId},
};
use protected_trust::policy::{TrustedPublisher, walk};

use crate::{
    app::App,
    audit::NewEvent,
    config::{ArchivedInstall, Package, Repository, Role},
    problem::{Answer, Refusal},
    session::Session,
};

/// What is asked.
pub(super) struct Question<'a> {
    /// The tenant that the caller names, if any.
    pub(super) tenant_id: Option<&'a TenantId>,
    pub(super) project_slug: &'a ProjectSlug,
    pub(super) package_name: &'a PackageName,
    /// Never empty.
    pub(super) actions: &'a [Action],
    /// The entitlements that the caller decided on.
    pub(super) expected_snapshot: Option<&'a EntitlementSnapshotId>,
}

/// That all of it is allowed, artifact apart.
pub(super) struct Decision<'a> {
    pub(super) package: &'a Package,
    pub(super) repository: &'a Repository,
    pub(super) snapshot: EntitlementSnapshotId,
    /// The trusted publisher or entitlement that allowed the last of the actions.
    pub(super) policy_id: String,
    pub(super) rules: Vec<RuleResult>,
}

/// What one id of a package's policy says to a session.
struct Grant {
    id: String,
    rules: Vec<RuleResult>,
    role: Option<Role>,
}

/// Decides, and refuses with the code of the first thing that is not so.
pub(super) fn decide<'a>(app: &'a App, session: &Session, question: &Question<'_>) -> Answer<Decision<'a>> {
    let snapshot = app.config.snapshot(&session.tenant_id, question.project_slug);
    decide_now(app, session, question, &snapshot).map_err(|refusal| {
        let stale = question.expected_snapshot.is_some_and(|expected| *expected != snapshot);
        // To somebody without a part in the project, its snapshot would tell that there is one.
        if !stale || *refusal.code() == Code::PROJECT_NOT_ENTITLED {
            return refusal;
        }
        refusal.with(|problem| {
            problem.stale_snapshot = true;
            problem.current_snapshot_id = Some(snapshot.to_string());
        })
    })
}

/// Decides whether the session may publish a package, which is what putting something on record about it needs.
/// `event` is told by which policy.
pub(super) fn may_publish(
    app: &App,
    session: &Session,
    tenant_id: Option<&TenantId>,
    project_slug: &ProjectSlug,
    package_name: &PackageName,
    event: &mut NewEvent,
) -> Answer<()> {
    let actions = &[Action::Publish];
    let question = Question { tenant_id, project_slug, package_name, actions, expected_snapshot: None };
    let decision = decide(app, session, &question)?;
    event.0.entitlement_snapshot_id = Some(decision.snapshot);
    event.0.policy_id = Some(decision.policy_id);
    Ok(())
}

fn decide_now<'a>(
    app: &'a App,
    session: &Session,
    question: &Question<'_>,
    snapshot: &EntitlementSnapshotId,
) -> Answer<Decision<'a>> {
    let Question { project_slug, package_name, actions, .. } = question;
    if question.tenant_id.is_some_and(|tenant| *tenant != session.tenant_id)
        || !projects(app, session).contains(*project_slug)
    {
        return Err(not_entitled(project_slug));
    }
    let package = app.config.package(&session.tenant_id, package_name);
    let Some(package) = package.filter(|package| package.project == **project_slug) else {
        let message = format!("project `{project_slug}` has no package {package_name}");
        return Err(Refusal::new(Code::PACKAGE_NOT_IN_PROJECT, message)
            .hint("an administrator of FractalOps adds packages to projects"));
    };
    check_status(package, actions)?;
    for action in *actions {
        if package.policy(*action).is_none() {
            let message = format!("{package_name} has no policy that says who may {action} it");
            return Err(Refusal::new(Code::NO_POLICY, message)
                .hint(format!("an administrator of FractalOps gives the package a policy for {action}")));
        }
    }
    let mut granted = Vec::new();
    for action in *actions {
        match grant(app, session, package, *action) {
            Ok(grant) => granted.push((*action, grant)),
            Err((nearest, rules)) => {
                return Err(denied(app, session, package, *action).rules(nearest, rules));
            }
        }
    }
    for (action, grant) in &granted {
        if *action == Action::Publish
            && session.kind == ActorKind::Human
            && grant.role != Some(Role::Maintainer)
        {
            let message = format!("{package_name} is published by CI; by hand only by maintainers");
            return Err(Refusal::new(Code::CI_ONLY, message).with(|problem| {
                problem.allowed_actions = allowed(app, session, package);
            }));
        }
    }
    let repository = app.config.repository(&package.repository);
    let (Some((_, Grant { id: policy_id, rules, .. })), Some(repository)) = (granted.pop(), repository)
    else {
        return Err(Refusal::new(Code::INTERNAL, "the configuration has no such repository"));
    };
    Ok(Decision { package, repository, snapshot: snapshot.clone(), policy_id, rules })
}

fn check_status(package: &Package, actions: &[Action]) -> Answer<()> {
    let name = &package.name;
    match package.status {
        PackageStatus::Active => Ok(()),
        PackageStatus::Disabled => Err(Refusal::new(Code::PACKAGE_DISABLED, format!("{name} is disabled"))),
        PackageStatus::Archived if actions.contains(&Action::Publish) => Err(Refusal::new(
            Code::PACKAGE_ARCHIVED,
            format!("{name} is archived: nothing is published to it"),
        )),
        PackageStatus::Archived if package.archived_install == ArchivedInstall::Deny => Err(Refusal::new(
            Code::PACKAGE_ARCHIVED,
            format!("{name} is archived and not installed any more"),
        )),
        PackageStatus::Archived => Ok(()),
    }
}

/// Looks for an id of the package's policy that gives the session this action. Otherwise says which came nearest.
fn grant(
    app: &App,
    session: &Session,
    package: &Package,
    action: Action,
) -> Result<Grant, (Option<String>, Vec<RuleResult>)> {
    let ids = package.policy(action).unwrap_or_default();
    let named = |id: &String| ids.contains(id);
    if session.kind == ActorKind::Human {
        let mut grants: Vec<_> = app
            .config
            .entitlements
            .iter()
            .filter(|it| named(&it.id) && it.people().include(&session.identity, &session.groups))
            .filter(|it| it.packages.contains(&package.name) && it.actions.contains(&action))
            .map(|it| Grant { id: it.id.clone(), rules: Vec::new(), role: Some(it.role) })
            .collect();
        // Of two grants the one that gives more.
        grants.sort_by_key(|grant| grant.role != Some(Role::Maintainer));
        return grants.into_iter().next().ok_or((None, Vec::new()));
    }
    let publishers = app
        .config
        .publishers
        .iter()
        .filter(|it| it.tenant_id == session.tenant_id && it.project_slug == package.project && named(&it.id))
        .filter(|it| it.covers(&package.name, action));
    let walked = walk(publishers, &session.identity);
    match walked.matched.into_iter().next() {
        Some(matched) => Ok(Grant { id: matched.publisher.id.clone(), rules: matched.rules, role: None }),
        None => {
            Err(walked.nearest.map_or((None, Vec::new()), |it| (Some(it.publisher.id.clone()), it.rules)))
        }
    }
}

fn denied(app: &App, session: &Session, package: &Package, action: Action) -> Refusal {
    let who = session.identity.describe();
    let message =
        format!("{who} may not {action} {}: its policy for {action} does not name this caller", package.name);
    Refusal::new(Code::ACTION_DENIED, message)
        .with(|problem| problem.allowed_actions = allowed(app, session, package))
}

/// Returns what the session could do with the package instead.
fn allowed(app: &App, session: &Session, package: &Package) -> Vec<Action> {
    [Action::Install, Action::Publish]
        .into_iter()
        .filter(|action| check_status(package, &[*action]).is_ok())
        .filter(|action| match grant(app, session, package, *action) {
            Ok(grant) => {
                let by_hand = *action == Action::Publish && session.kind == ActorKind::Human;
                !by_hand || grant.role == Some(Role::Maintainer)
            }
            Err(_) => false,
        })
        .collect()
}

/// Returns the projects of its tenant that a session has a part in.
pub(super) fn projects(app: &App, session: &Session) -> BTreeSet<ProjectSlug> {
    if session.kind == ActorKind::Human {
        let entitled = app.config.entitlements.iter().filter(|it| it.tenant_id == session.tenant_id);
        let own = entitled.filter(|it| it.people().include(&session.identity, &session.groups));
        return own.map(|it| it.project_slug.clone()).collect();
    }
    let publishers = app.config.publishers.iter().filter(|it| it.tenant_id == session.tenant_id);
    let walked = walk(publishers, &session.identity);
    walked.matched.into_iter().map(|it| it.publisher.project_slug.clone()).collect()
}

/// The same refusal for a project that does not exist and for one that the caller has no part in.
pub(super) fn not_entitled(project: &ProjectSlug) -> Refusal {
    Refusal::new(Code::PROJECT_NOT_ENTITLED, format!("no access to project `{project}`"))
        .hint("check the project's name; access is given by an administrator of FractalOps")
}

/// Returns the trusted publishers that a run is, of every tenant; refuses with the nearest when it is none.
pub(crate) fn publishers<'a>(app: &'a App, identity: &RunIdentity) -> Answer<Vec<&'a TrustedPublisher>> {
    let walked = walk(app.config.publishers.iter(), identity);
    if walked.matched.is_empty() {
        let message = format!("no trusted publisher matches {}", identity.describe());
        let refusal = Refusal::new(Code::NO_TRUSTED_PUBLISHER, message);
        let ask = "an administrator of FractalOps adds a trusted publisher for this repository and workflow";
        return Err(match walked.nearest {
            None => refusal.hint(ask),
            Some(it) => refusal
                .hint(it.hint.map_or_else(|| ask.to_owned(), |hint| hint.to_string()))
                .rules(Some(it.publisher.id.clone()), it.rules),
        });
    }
    Ok(walked.matched.into_iter().map(|it| it.publisher).collect())
}

/// Returns how a policy is written.
pub(super) fn policy_word(policy: ArtifactPolicy) -> &'static str {
    match policy {
        ArtifactPolicy::Hardened => "hardened",
        ArtifactPolicy::EncryptedDelivery => "encrypted_delivery",
    }
}
