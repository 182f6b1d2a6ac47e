//! Who a certificate names: verified claims in the words of Fulcio's extensions (1.3.6.1.4.1.57264.1.*).
//!
//! The source is `docs/oid-info.md` of sigstore/fulcio. A claim that the platform did not make has no extension;
//! nothing is filled in from anywhere else.

use der::{
    Encode as _,
    asn1::{ObjectIdentifier, Utf8StringRef},
};
use protected_model::{
    api::problem::Code,
    identity::{PlatformKind, RunIdentity},
};
use protected_trust::platform;
use x509_cert::ext::{
    Extension,
    pkix::{SubjectAltName, name::GeneralName},
};

use super::error::AuthorityError;
use crate::{
    problem::{Answer, Refusal},
    x509,
};

/// The arc of Fulcio's extensions.
const FULCIO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1");
/// The first of them whose value is DER; those before hold plain text.
const FIRST_IN_DER: u32 = 8;

/// What a certificate says about its holder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Certified {
    /// The alternative name: a URI.
    pub(super) uri: String,
    /// Each extension by its last arc.
    pub(super) claims: Vec<(u32, String)>,
}

impl Certified {
    /// Puts a verified run into words; refuses one that has no name.
    pub(super) fn of(run: &RunIdentity) -> Answer<Self> {
        let claim = |name: &str| run.claims.get(name).filter(|it| !it.is_empty()).cloned();
        let server = platform::server(run);
        let at =
            |path: Option<String>| server.as_ref().zip(path).map(|(server, path)| format!("{server}/{path}"));
        let needed = |name: &str, value: Option<String>| value.ok_or_else(|| missing(name, run));
        let mut claims = vec![(1, Some(run.issuer.clone())), (8, Some(run.issuer.clone()))];
        let uri = match run.platform {
            PlatformKind::GithubActions => {
                let uri = needed("job_workflow_ref", at(run.job_workflow_ref.clone()))?;
                claims.extend([
                    (2, run.event.clone()),
                    (3, run.sha.clone()),
                    (5, run.repository.clone()),
                    (6, run.git_ref.clone()),
                    (9, Some(uri.clone())),
                    (10, claim("job_workflow_sha")),
                    (12, at(run.repository.clone())),
                    (14, run.git_ref.clone()),
                    (16, at(run.owner.clone())),
                    (18, at(run.workflow_ref.clone())),
                    (19, claim("workflow_sha")),
                    (21, run.run_url.clone().or_else(|| at(run_of_github(run)))),
                    (22, claim("repository_visibility")),
                ]);
                uri
            }
            PlatformKind::GitlabCi => {
                let config = needed("ci_config_ref_uri", run.workflow_ref.clone())?;
                let uri = format!("https://{config}");
                claims.extend([
                    (9, Some(uri.clone())),
                    (10, claim("ci_config_sha")),
                    (12, at(run.repository.clone())),
                    (14, run.git_ref.clone()),
                    (16, at(run.owner.clone())),
                    (18, Some(uri.clone())),
                    (19, claim("ci_config_sha")),
                    (21, run.run_url.clone()),
                    (22, claim("project_visibility")),
                ]);
                uri
            }
            PlatformKind::Jenkins => {
                let uri = job_url(run)?;
                claims.extend([(9, Some(uri.clone())), (18, Some(uri.clone())), (21, run.run_url.clone())]);
                uri
            }
            PlatformKind::Generic => job_url(run)?,
        };
        claims.extend([
            (11, run.runner_environment.clone()),
            (13, run.sha.clone()),
            (15, run.repository_id.clone()),
            (17, run.owner_id.clone()),
            (20, run.event.clone()),
            (23, run.environment.clone()),
        ]);
        let mut claims: Vec<_> = claims.into_iter().filter_map(|(arc, value)| Some((arc, value?))).collect();
        claims.sort_by_key(|(arc, _)| *arc);
        Ok(Self { uri, claims })
    }

    /// Returns the extensions of the certificate.
    pub(super) fn extensions(&self) -> Result<Vec<Extension>, AuthorityError> {
        let name = GeneralName::UniformResourceIdentifier(der::asn1::Ia5String::new(&self.uri)?);
        let mut extensions = vec![x509::extension(true, &SubjectAltName(vec![name]))?];
        for (arc, value) in &self.claims {
            let value = match *arc < FIRST_IN_DER {
                true => value.as_bytes().to_vec(),
                false => Utf8StringRef::new(value)?.to_der()?,
            };
            extensions.push(x509::plain_extension(
                FULCIO.push_arc(*arc).map_err(der::Error::from)?,
                false,
                value,
            )?);
        }
        Ok(extensions)
    }
}

fn run_of_github(run: &RunIdentity) -> Option<String> {
    let attempt = run.run_attempt.as_ref().map_or_else(String::new, |it| format!("/attempts/{it}"));
    Some(format!("{}/actions/runs/{}{attempt}", run.repository.as_ref()?, run.run_id.as_ref()?))
}

/// Returns the subject as the name: a URI, which is what a certificate can hold and what verifiers compare.
fn job_url(run: &RunIdentity) -> Answer<String> {
    let subject = &run.subject;
    match url::Url::parse(subject) {
        Ok(_) if subject.is_ascii() => Ok(subject.clone()),
        _ => Err(Refusal::new(
            Code::INVALID_ID_TOKEN,
            format!("the token's `sub` is `{}`, expected a URI, which the certificate names", shown(subject)),
        )),
    }
}

fn missing(name: &str, run: &RunIdentity) -> Refusal {
    let message = format!(
        "the token's `{name}` is missing, expected the workflow that runs, which the certificate of a {} job names",
        run.platform.name()
    );
    Refusal::new(Code::INVALID_ID_TOKEN, message)
}

fn shown(text: &str) -> String {
    text.chars().take(200).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(platform: PlatformKind, issuer: &str, subject: &str, claims: &[(&str, &str)]) -> RunIdentity {
        let mut run = RunIdentity::new(platform, issuer, subject);
        run.claims = claims.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        run
    }

    fn of(run: &RunIdentity) -> (String, Vec<(u32, String)>) {
        let Certified { uri, claims } = Certified::of(run).expect("certified");
        (uri, claims)
    }

    #[test]
    fn github_is_named_by_its_server() {
        let reference = "acme/core/.github/workflows/release.yml@refs/tags/v1";
        for (issuer, server) in [
            ("https://token.actions.githubusercontent.com", "https://github.com"),
            ("https://token.actions.githubusercontent.com/acme", "https://github.com"),
            ("https://token.actions.acme.ghe.com", "https://acme.ghe.com"),
            ("https://ghes.example/_services/token", "https://ghes.example"),
            ("https://forgejo.example/api/actions", "https://forgejo.example"),
        ] {
            let mut run =
                run(PlatformKind::GithubActions, issuer, "repo:acme/core:x", &[("workflow_sha", "abc")]);
            run.job_workflow_ref = Some(reference.to_owned());
            let (uri, claims) = of(&run);
            assert_eq!(uri, format!("{server}/{reference}"));
            let expected = [(1, issuer.to_owned()), (8, issuer.to_owned()), (9, uri), (19, "abc".to_owned())];
            assert_eq!(claims, expected);
        }
        let nameless =
            run(PlatformKind::GithubActions, "https://token.actions.githubusercontent.com", "x", &[]);
        let refusal = Certified::of(&nameless).expect_err("no workflow");
        assert!(refusal.message().contains("`job_workflow_ref` is missing"), "{}", refusal.message());
    }

    #[test]
    fn gitlab_is_named_by_its_configuration() {
        let mut run = run(
            PlatformKind::GitlabCi,
            "https://gitlab.example",
            "project_path:acme/core:ref_type:branch:ref:main",
            &[("ci_config_sha", "abc"), ("project_visibility", "private")],
        );
        let refusal = Certified::of(&run).expect_err("no configuration");
        assert!(refusal.message().contains("`ci_config_ref_uri` is missing"), "{}", refusal.message());
        run.workflow_ref = Some("gitlab.example/acme/core//.gitlab-ci.yml@refs/heads/main".to_owned());
        run.repository = Some("acme/core".to_owned());
        run.repository_id = Some("7".to_owned());
        run.owner = Some("acme".to_owned());
        run.run_url = Some("https://gitlab.example/acme/core/-/jobs/1".to_owned());
        let (uri, claims) = of(&run);
        assert_eq!(uri, "https://gitlab.example/acme/core//.gitlab-ci.yml@refs/heads/main");
        let expected = [
            (1, "https://gitlab.example"),
            (8, "https://gitlab.example"),
            (9, uri.as_str()),
            (10, "abc"),
            (12, "https://gitlab.example/acme/core"),
            (15, "7"),
            (16, "https://gitlab.example/acme"),
            (18, uri.as_str()),
            (19, "abc"),
            (21, "https://gitlab.example/acme/core/-/jobs/1"),
            (22, "private"),
        ];
        assert_eq!(claims, expected.map(|(arc, value)| (arc, value.to_owned())));
    }

    #[test]
    fn other_jobs_are_named_by_their_subject_which_is_a_uri() {
        let job = "https://ci.example/job/acme/job/main/";
        let mut jenkins = run(PlatformKind::Jenkins, "https://ci.example/oidc", job, &[]);
        jenkins.run_url = Some(format!("{job}7/"));
        let (uri, claims) = of(&jenkins);
        assert_eq!(uri, job);
        assert_eq!(claims.iter().map(|(arc, _)| *arc).collect::<Vec<_>>(), [1, 8, 9, 18, 21]);
        let spiffe = run(PlatformKind::Generic, "https://issuer.example", "spiffe://acme/ns/ci", &[]);
        assert_eq!(of(&spiffe).0, "spiffe://acme/ns/ci");
        for subject in ["release-bot", "", "https://bücher.example/job"] {
            for platform in [PlatformKind::Jenkins, PlatformKind::Generic] {
                let nameless = run(platform, "https://issuer.example", subject, &[]);
                let refusal = Certified::of(&nameless).expect_err("no URI");
                assert!(refusal.message().contains("expected a URI"), "{}", refusal.message());
            }
        }
    }
}
