//! Who may unwrap: role assignments on the key, in Azure's resource manager.
//!
//! A principal can have a role on a key once, however many deliveries are wrapped with that key. So there is one
//! assignment for a grantee, and its description lists the deliveries that it is for: it stays until the last of them
//! is taken back. The resource manager knows no compare and set. Of two publishers that write at once one may be left
//! off the list, whose delivery is then listed as granted to nobody, and opens until the other is taken back: never
//! for longer than something is granted.

use protected_model::{
    api::delivery::Grantee, environment::Environment, name::BundleId, service_url::ServiceUrl,
};
use serde::Deserialize;
use serde_json::json;
use url::Url;
use uuid::Uuid;

use super::{Endpoint, Service, parts};
use crate::{FoundGrant, KeyError, Revoked};

/// The version of the API of role assignments.
const API: &str = "api-version=2022-04-01";
/// The version of the API of vaults.
const VAULTS_API: &str = "api-version=2026-05-15";
/// The built-in role "Key Vault Crypto Service Encryption User": wraps, unwraps and reads the public key.
const ROLE: &str = "e147488a-f6f5-4113-8e2d-b22465e65bf6";
/// The other built-in roles that unwrap: "Key Vault Crypto User", "Key Vault Crypto Officer", "Key Vault Administrator".
const UNWRAPPING: &[&str] = &[
    ROLE,
    "12338af0-0e69-4776-bea7-57ae8d297424",
    "14b46e9e-c2b7-41b4-b07b-48a6ebf60603",
    "00482a5a-887f-4fb3-b363-3b7fe8e74483",
];
/// How the description of an assignment starts that is ours; the deliveries follow.
const MARK: &str = "protected-registry delivery";
/// Azure asks for no longer description.
const LONGEST_DESCRIPTION: usize = 512;
/// How often a list is written anew that others write too.
const ATTEMPTS: usize = 4;
/// The most pages of a list that are read: a subscription has at most 8000 assignments.
const MAX_PAGES: usize = 100;
/// How a grantee says what it is, and what Azure calls that. An application or managed identity says nothing.
const KINDS: &[(&str, &str)] = &[("user:", "User"), ("group:", "Group"), ("", "ServicePrincipal")];

/// The assignments on a key.
pub(super) struct Access<'a> {
    service: &'a Service,
    management: &'a Endpoint,
    subscription: Uuid,
    /// The vault, as a resource.
    vault: String,
    /// The key, as a resource.
    key: String,
    role: Uuid,
}

#[derive(Deserialize)]
struct Page {
    value: Vec<Assignment>,
    #[serde(rename = "nextLink")]
    next: Option<String>,
}

#[derive(Deserialize)]
struct Assignment {
    name: Uuid,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    scope: String,
    role_definition_id: String,
    principal_id: Uuid,
    principal_type: Option<String>,
    description: Option<String>,
}

#[derive(Deserialize)]
struct Vault {
    properties: VaultProperties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VaultProperties {
    vault_uri: String,
    #[serde(default)]
    enable_rbac_authorization: bool,
}

struct Principal {
    id: Uuid,
    kind: &'static str,
}

impl<'a> Access<'a> {
    pub(super) fn new(service: &'a Service, environment: &Environment) -> Result<Self, KeyError> {
        let missing = |what, hint| KeyError::NotConfigured { key: service.reference.clone(), what, hint };
        let refuse = |reason: String| KeyError::Grant { key: service.reference.clone(), reason };
        let id = |name: &str, text: &str| {
            text.parse::<Uuid>()
                .map_err(|_| refuse(format!("expected in {name} an id such as `{ROLE}`, found another text")))
        };
        let management = service.management.as_ref().ok_or_else(|| {
            missing(
                "where the resource manager of this cloud is",
                "set PROTECTED_REGISTRY_AZURE_MANAGEMENT_URL, such as `https://management.azure.com`",
            )
        })?;
        let subscription = environment.get("AZURE_SUBSCRIPTION_ID").ok_or_else(|| {
            missing(
                "in which subscription the vault is",
                "set AZURE_SUBSCRIPTION_ID to the subscription of the vault",
            )
        })?;
        let group = environment.get("PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP").ok_or_else(|| {
            missing(
                "in which resource group the vault is",
                "set PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP to the resource group of the vault",
            )
        })?;
        // Attack: a name with `/` or `..` in it would put the assignment on another resource.
        if group.ends_with('.') || !group.chars().all(|c| c.is_alphanumeric() || "-_.()".contains(c)) {
            return Err(refuse(
                "PROTECTED_REGISTRY_AZURE_RESOURCE_GROUP is no name of a resource group".to_owned(),
            ));
        }
        let role = environment.get("PROTECTED_REGISTRY_AZURE_ROLE_DEFINITION").unwrap_or(ROLE);
        let subscription = id("AZURE_SUBSCRIPTION_ID", subscription)?;
        let (vault, key, _) = parts(&service.reference);
        let vault = format!(
            "subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.KeyVault/vaults/{vault}"
        );
        Ok(Self {
            service,
            management,
            subscription,
            key: format!("{vault}/keys/{key}"),
            vault,
            role: id("PROTECTED_REGISTRY_AZURE_ROLE_DEFINITION", role)?,
        })
    }

    /// Lets a principal unwrap, and returns what the assignment is called.
    pub(super) async fn grant(&self, bundle: &BundleId, grantee: &Grantee) -> Result<String, KeyError> {
        let principal = self.principal(grantee)?;
        self.check_vault().await?;
        let name = self.name(&principal);
        let mut written = false;
        for _ in 0..ATTEMPTS {
            let found = self.find(name).await?;
            // Attack: an assignment that bears this name, and lets somebody else unwrap.
            if let Some(found) = &found {
                self.is_for(found, name, &principal)?;
            }
            let mut bundles = found.as_ref().and_then(Assignment::bundles).unwrap_or_default();
            let listed = bundles.contains(&bundle.as_str());
            // What was just written may not be shown yet.
            if listed || (written && found.is_none()) {
                return Ok(name.to_string());
            }
            bundles.push(bundle.as_str());
            match self.write(name, &principal, &self.role_definition(), &bundles).await {
                Ok(()) => written = true,
                Err(KeyError::Service { status: 409, .. }) => self.refuse_foreign(&principal).await?,
                Err(error) => return Err(error),
            }
        }
        Err(self.refused(format!("others write the grants of `{grantee}` at the same time: run it again")))
    }

    /// Lists the principals for whom this delivery is on the list.
    pub(super) async fn grants(&self, bundle: &BundleId) -> Result<Vec<FoundGrant>, KeyError> {
        let all = self.list().await?;
        let ours =
            all.iter().filter(|found| self.ours(found).is_some_and(|list| list.contains(&bundle.as_str())));
        Ok(ours
            .map(|found| FoundGrant {
                reference: found.name.to_string(),
                grantee: found.grantee(),
                expires_at: None,
            })
            .collect())
    }

    /// Takes a delivery off the list of a principal, and the assignment with the last one.
    pub(super) async fn revoke(&self, bundle: &BundleId, grantee: &Grantee) -> Result<Revoked, KeyError> {
        let principal = self.principal(grantee)?;
        let (mut was, mut still) = (false, Vec::new());
        for found in self.list().await?.iter().filter(|found| found.properties.principal_id == principal.id) {
            let Some(mut bundles) = self.ours(found) else {
                if self.unwraps(found) {
                    still.push(format!("the assignment {}, which was not made here", found.name));
                }
                continue;
            };
            let before = bundles.len();
            bundles.retain(|listed| *listed != bundle.as_str());
            if bundles.is_empty() {
                self.delete(found.name).await?;
                was = true;
                continue;
            }
            if bundles.len() < before {
                self.write(found.name, &principal, &found.properties.role_definition_id, &bundles).await?;
                was = true;
            }
            still.extend(bundles.iter().map(|bundle| format!("the grant of the delivery {bundle}")));
        }
        Ok(Revoked { was, still })
    }

    fn principal(&self, grantee: &Grantee) -> Result<Principal, KeyError> {
        let found = KINDS.iter().find_map(|(prefix, kind)| {
            let id = grantee.as_str().strip_prefix(prefix)?;
            // Of the many ways to write one there is one that is listed.
            let plain = id.len() == 36 && id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
            Some(Principal { id: id.parse().ok().filter(|_| plain)?, kind })
        });
        found.ok_or_else(|| {
            self.refused(format!(
                "`{grantee}` is no object id of Microsoft Entra: expected that of an application's service principal or of a managed identity, such as `{ROLE}`, or `user:` or `group:` and one"
            ))
        })
    }

    /// Names the assignment of a principal: the same for everybody who grants, and another on another key.
    fn name(&self, principal: &Principal) -> Uuid {
        let text = format!("{}\n{}\n{}", self.key.to_ascii_lowercase(), principal.id, self.role);
        Uuid::new_v5(&Uuid::NAMESPACE_URL, text.as_bytes())
    }

    fn role_definition(&self) -> String {
        format!(
            "/subscriptions/{}/providers/Microsoft.Authorization/roleDefinitions/{}",
            self.subscription, self.role
        )
    }

    fn is_role(&self, found: &Assignment) -> bool {
        found.role() == Some(self.role)
    }

    fn unwraps(&self, found: &Assignment) -> bool {
        self.is_role(found) || UNWRAPPING.iter().any(|role| role.parse().ok() == found.role())
    }

    /// Refuses a vault whose keys cannot be granted one by one, and one that is not the key's.
    async fn check_vault(&self) -> Result<(), KeyError> {
        let url = self.management.url.join(&format!("{}?{VAULTS_API}", self.vault));
        let found: Vault = self.service.json(self.management, self.service.http.get(url)).await?;
        let address = found.properties.vault_uri.parse::<ServiceUrl>().ok();
        if address.as_ref() != Some(&self.service.vault.url) {
            return Err(self.refused(format!(
                "the vault in this subscription and resource group is at `{}`, expected `{}`",
                crate::rest::readable(&found.properties.vault_uri),
                self.service.vault.url
            )));
        }
        if !found.properties.enable_rbac_authorization {
            return Err(self.refused(
                "the vault goes by access policies, which would open every key in it to the grantee: turn on role-based access control (`az keyvault update --enable-rbac-authorization true`)".to_owned(),
            ));
        }
        Ok(())
    }

    /// Refuses to count on an assignment that is not ours: what it grants could not be taken back here.
    async fn refuse_foreign(&self, principal: &Principal) -> Result<(), KeyError> {
        let own = self.name(principal);
        let foreign = self.list().await?.into_iter().find(|found| {
            let same = found.properties.principal_id == principal.id && self.is_role(found);
            same && self.is_here(found) && found.name != own
        });
        match foreign {
            None => Ok(()),
            Some(found) => Err(self.refused(format!(
                "`{}` has this role on it by the assignment {}, which was not made here and could not be taken back: delete that one first",
                principal.id, found.name
            ))),
        }
    }

    fn refused(&self, reason: String) -> KeyError {
        KeyError::Grant { key: self.service.reference.clone(), reason }
    }

    fn url(&self, name: Uuid) -> Url {
        let path = format!("{}/providers/Microsoft.Authorization/roleAssignments/{name}?{API}", self.key);
        self.management.url.join(&path)
    }

    async fn find(&self, name: Uuid) -> Result<Option<Assignment>, KeyError> {
        let found = self.service.json(self.management, self.service.http.get(self.url(name))).await;
        match found {
            Ok(found) => Ok(Some(found)),
            Err(KeyError::Service { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn write(
        &self,
        name: Uuid,
        principal: &Principal,
        role_definition: &str,
        bundles: &[&str],
    ) -> Result<(), KeyError> {
        let description = format!("{MARK} {}", bundles.join(" "));
        if description.len() > LONGEST_DESCRIPTION {
            return Err(self.refused(format!(
                "`{}` has {} deliveries on this key, and the list of them is full: take back what is over, or use another key",
                principal.id,
                bundles.len() - 1
            )));
        }
        let body = json!({"properties": {
            "roleDefinitionId": role_definition,
            "principalId": principal.id,
            "principalType": principal.kind,
            "description": description,
        }});
        let request = self.service.http.put(self.url(name)).json(&body);
        let written: Assignment = self.service.json(self.management, request).await?;
        self.is_for(&written, name, principal)
    }

    /// Refuses an assignment that is not the one that was asked for.
    fn is_for(&self, found: &Assignment, name: Uuid, principal: &Principal) -> Result<(), KeyError> {
        if found.name == name && self.is_here(found) && found.properties.principal_id == principal.id {
            return Ok(());
        }
        let reason =
            format!("expected the assignment {name} on this key for `{}`, found another", principal.id);
        Err(self.service.answer(reason))
    }

    /// Deletes an assignment, unless somebody else just did.
    async fn delete(&self, name: Uuid) -> Result<(), KeyError> {
        let answer = self.service.send(self.management, self.service.http.delete(self.url(name))).await;
        match answer {
            Ok(_) | Err(KeyError::Service { status: 404, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Lists the assignments on the key, and those on its vault and above that it inherits, whoever made them.
    async fn list(&self) -> Result<Vec<Assignment>, KeyError> {
        let path = format!("{}/providers/Microsoft.Authorization/roleAssignments", self.key);
        let own = self.management.url.join(&path);
        let mut url = self.management.url.join(&format!("{path}?{API}&$filter=atScope()"));
        let mut found = Vec::new();
        for _ in 0..MAX_PAGES {
            let page: Page = self.service.json(self.management, self.service.http.get(url)).await?;
            found.extend(page.value);
            let Some(next) = page.next else { return Ok(found) };
            // Attack: a page that goes on elsewhere would be sent the token.
            let next = next
                .parse::<Url>()
                .ok()
                .filter(|next| next.origin() == own.origin() && next.path().eq_ignore_ascii_case(own.path()));
            url =
                next.ok_or_else(|| self.service.answer("its list goes on at another address".to_owned()))?;
        }
        Err(self.service.answer(format!("its list has more than {MAX_PAGES} pages")))
    }

    /// Returns the deliveries that an assignment is for, where it is one of ours.
    fn ours<'f>(&self, found: &'f Assignment) -> Option<Vec<&'f str>> {
        found.bundles().filter(|_| self.is_here(found))
    }

    fn is_here(&self, found: &Assignment) -> bool {
        found.properties.scope.trim_start_matches('/').eq_ignore_ascii_case(&self.key)
    }
}

impl Assignment {
    /// Returns the deliveries on its list, where it has one.
    fn bundles(&self) -> Option<Vec<&str>> {
        let list = self.properties.description.as_deref()?.strip_prefix(MARK)?;
        Some(list.split_ascii_whitespace().collect())
    }

    fn role(&self) -> Option<Uuid> {
        self.properties.role_definition_id.rsplit('/').next()?.parse().ok()
    }

    fn grantee(&self) -> Option<Grantee> {
        let kind = self.properties.principal_type.as_deref();
        let (prefix, _) = KINDS.iter().find(|(_, name)| Some(*name) == kind)?;
        format!("{prefix}{}", self.properties.principal_id).parse().ok()
    }
}
