//! Configurations that are refused, each with its line and its key.

use super::service::configuration;
use crate::{Config, ConfigError};

fn refused(text: &str) -> (usize, String) {
    match Config::parse(text) {
        Ok(_) => panic!("taken"),
        Err(ConfigError::Refused { line, message }) => (line, message),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_example_works_as_it_is() {
    let config = Config::parse(Config::example()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.server.listen.port(), 8787);
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("fractalops.toml");
    std::fs::write(&file, Config::example()).expect("written");
    let config = Config::from_file(&file).expect("config");
    assert_eq!(config.server.data, folder.path().join("fractalops-data"));
    assert!(matches!(Config::from_file(folder.path()), Err(ConfigError::File { .. })));
}

#[test]
fn every_setting_of_the_example_is_one() {
    // What stands behind `#` is a setting too: uncommented, nothing of it is unknown.
    let uncommented: String = Config::example()
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.bytes().all(|it| it.is_ascii_lowercase() || it == b'_')) =>
            {
                format!("{rest}\n")
            }
            _ => format!("{line}\n"),
        })
        .collect();
    let uncommented = uncommented
        .replace("public_url = \"https://fractalops.example\"", "public_url = \"http://127.0.0.1:8787\"")
        .replace(
            "jwks_url = \"https://...\"        # when it cannot be discovered from the issuer's URL",
            "",
        );
    let config = Config::parse(&uncommented).unwrap_or_else(|error| panic!("{error}\n{uncommented}"));
    assert_eq!(config.limits.body_bytes, 64 * 1024 * 1024);
    assert!(config.server.https_proxy.is_some() && config.server.ca_file.is_some());
}

#[test]
fn what_cannot_be_meant_is_refused_with_its_line() {
    let good = configuration(std::path::Path::new("/nowhere"));
    Config::parse(&good).unwrap_or_else(|error| panic!("{error}"));
    for (from, to, expected) in [
        ("[limits]", "[limits]\nbody_byte = 1", "unknown field `body_byte`"),
        ("[limits]", "[limits]\nsession_seconds = 901", "session_seconds = 901: expected 1 to 900"),
        ("[limits]", "[limits]\npublish_seconds = 301", "publish_seconds = 301: expected 1 to 300"),
        ("[limits]", "[limits]\ninstall_seconds = 0", "install_seconds = 0: expected 1 to 900"),
        ("[limits]", "[limits]\nconnections = 0", "at least one connection"),
        ("listen = \"127.0.0.1:0\"", "listen = \"0.0.0.0:0\"", "needs `public_url`"),
        ("listen = \"127.0.0.1:0\"", "listen = \"127.0.0.1\"", "invalid socket address"),
        (
            "# public_url = \"https://fractalops.example\"",
            "public_url = \"http://fractalops.example\"",
            "credentials are only sent over https",
        ),
        (
            "# public_url = \"https://fractalops.example\"",
            "public_url = \"https://fractalops.example\"",
            "[local_issuer] is for one machine",
        ),
        ("[[tenant]]\nid = \"rival\"", "[[tenant]]\nid = \"acme\"", "`acme` is there twice"),
        ("slug = \"other\"", "slug = \"core\"", "`core` of tenant `acme` is there twice"),
        ("tenant = \"rival\"\nslug", "tenant = \"nobody\"\nslug", "`nobody` is no [[tenant]]"),
        ("name = \"rival-hosted\"", "name = \"npm-hosted\"", "`npm-hosted` is there twice"),
        ("name = \"rival-hosted\"", "name = \"../rival\"", "expected 1 to 64 lower-case letters"),
        ("scopes = [\"@rival\"]", "scopes = [\"@other\"]", "neither its scope in `scopes`"),
        ("scopes = [\"@rival\"]", "scopes = []", "takes no package"),
        ("scopes = [\"@rival\"]", "scopes = [\"\"]", "list packages without a scope in `packages`"),
        (
            "name = \"@acme/other\"\nproject = \"other\"",
            "name = \"@acme/other\"\nproject = \"nowhere\"",
            "project `nowhere` is no [[project]]",
        ),
        (
            "name = \"@acme/other\"\nproject = \"other\"",
            "name = \"@acme/other\"\nproject = \"core\"",
            "which is of another project",
        ),
        (
            "name = \"@acme/no-policy\"",
            "name = \"@acme/plain\"",
            "`@acme/plain` of tenant `acme` is there twice",
        ),
        (
            "publish = [\"other-release\"]",
            "publish = [\"nobody\"]",
            "names `nobody`, no [[trusted_publisher]]",
        ),
        ("publish = [\"other-release\"]", "publish = [\"reader\"]", "which is of another project"),
        ("publish = [\"somebody-else\"]", "publish = [\"reader\"]", "whose `actions` do not list `publish`"),
        (
            "publish = [\"somebody-else\"]",
            "publish = [\"members\"]",
            "whose `packages` do not list the package",
        ),
        (
            "packages = [\"@acme/other\"]",
            "packages = [\"@acme/missing\"]",
            "whose `packages` do not list the package",
        ),
        ("id = \"reader\"", "id = \"members\"", "`members` is there twice"),
        ("packages = [\"@rival/core\"]", "packages = []", "packages is empty"),
        ("repository_id = \"6002\"", "repository_id = \"*\"", "must be a number"),
        (
            "issuer = \"local:generic\"\nsub = \"member\"\npackages = [\"@acme/plain\"]",
            "issuer = \"local:jenkins\"\nsub = \"member\"\npackages = [\"@acme/plain\"]",
            "is no [[issuer]]",
        ),
        (
            "issuer = \"local:generic\"\nsub = \"member\"\npackages = [\"@acme/plain\"]",
            "issuer = \"local:github-actions\"\nsub = \"member\"\npackages = [\"@acme/plain\"]",
            "needs `people = true`",
        ),
        (
            "issuer = \"local:generic\"\nsub = \"member\"\npackages = [\"@acme/plain\"]",
            "issuer = \"local:generic\"\nsub = \"member\"\ngroup = \"x\"\npackages = [\"@acme/plain\"]",
            "either `sub` or `group`",
        ),
        (
            "[[issuer]]\nurl = \"local:generic\"\nplatform = \"generic\"",
            "[[issuer]]\nurl = \"local:generic\"\nplatform = \"jenkins\"",
            "`people` needs platform `generic`",
        ),
        (
            "[[issuer]]\nurl = \"local:github-actions\"\nplatform = \"github-actions\"",
            "[[issuer]]\nurl = \"local:github-actions\"\nplatform = \"gitlab-ci\"",
            "expected platform `gitlab-ci` as in its url",
        ),
        (
            "[[issuer]]\nurl = \"local:github-actions\"",
            "[[issuer]]\nurl = \"http://ci.example\"",
            "credentials are only sent over https",
        ),
        (
            "enabled = true\n\n[[local_issuer.run]]",
            "enabled = false\n\n[[local_issuer.run]]",
            "needs [local_issuer]",
        ),
        ("name = \"nobody\"", "name = \"member\"", "`member` is there twice"),
        ("service = \"registry.example\"", "service = \"\"", "expected what the registry calls itself"),
        ("[oci]\n", "[oci]\nrevoked_licences = [\"globex\"]\n", "`globex` is no [[oci_licence]]"),
        ("[oci]\n", "[[customer]]\n", "unknown field `service`"),
        ("id = \"globex-deliveries\"", "id = \"core-release\"", "`core-release` is there twice"),
        (
            "id = \"globex-deliveries\"\ntenant_id = \"acme\"",
            "id = \"globex-deliveries\"\ntenant_id = \"globex\"",
            "project `core` is no [[project]] of `globex`",
        ),
        (
            "{ below = \"acme/core/globex\", actions = [\"pull\"] }",
            "{ below = \"acme/core2/globex\", actions = [\"pull\"] }",
            "repository `acme/core2/globex` does not begin with `acme/core`",
        ),
        ("name = \"acme/core/tools\"", "name = \"rival/core/tools\"", "does not begin with `acme/core`"),
        ("name = \"acme/core/tools\"", "name = \"acme/core/*\"", "is not the path of a repository"),
        ("name = \"acme/core/tools\"", "name = \"Acme/core/tools\"", "is not the path of a repository"),
        (
            "name = \"acme/core/tools\"",
            "name = \"acme/core/tools\", below = \"acme/core\"",
            "either `name` or `below`",
        ),
        (
            "name = \"acme/core/tools\", actions = [\"pull\"]",
            "actions = [\"pull\"]",
            "either `name` or `below`",
        ),
        (
            "name = \"acme/core/tools\", actions = [\"pull\"]",
            "name = \"acme/core/tools\", actions = []",
            "`actions` of `acme/core/tools` may not be empty",
        ),
        (
            "name = \"acme/core/tools\", actions = [\"pull\"]",
            "name = \"acme/core/tools\", actions = [\"admin\"]",
            "unknown variant `admin`",
        ),
        (
            "repositories = [{ below = \"acme/core\", actions = [\"pull\", \"push\"] }]",
            "repositories = []",
            "`repositories` may not be empty",
        ),
        ("plan = \"globex-deliveries\"", "plan = \"globex\"", "plan `globex` is no [[oci_plan]]"),
        ("plan = \"globex-deliveries\"", "plan = \"core-release\"", "lets more than `pull`"),
        (
            "holders = [\"acme-core-release\", \"acme-maintainers\"]",
            "holders = [\"acme-core-release\", \"members\"]",
            "is no publisher and no maintainer",
        ),
        ("holders = [\"globex\"]", "holders = []", "`holders` may not be empty"),
        ("holders = [\"globex\"]", "holders = [\"gina\"]", "holder `gina` is no [[trusted_publisher]]"),
        ("holders = [\"globex\"]", "holders = [\"other-release\"]", "`other-release` is of another project"),
        ("holders = [\"globex\"]", "holders = [\"rival-release\"]", "`rival-release` is of another project"),
        ("id = \"globex-2026\"", "id = \"acme-internal\"", "`acme-internal` is there twice"),
        (
            "id = \"globex\"\ntenant_id = \"acme\"",
            "id = \"globex\"\ntenant_id = \"nobody\"",
            "is no [[tenant]]",
        ),
        ("id = \"globex\"\n", "id = \"acme-maintainers\"\n", "`acme-maintainers` is there twice"),
        ("group = \"globex\"", "group = \"globex\"\nsub = \"gina\"", "either `sub` or `group`"),
        (
            "issuer = \"local:generic\"\ngroup = \"globex\"",
            "issuer = \"local:github-actions\"\ngroup = \"globex\"",
            "needs `people = true`",
        ),
        (
            "issuer = \"local:generic\"\ngroup = \"globex\"",
            "issuer = \"local:jenkins\"\ngroup = \"globex\"",
            "is no [[issuer]]",
        ),
        ("name = \"nobody\"", "name = \"../nobody\"", "expected 1 to 64 letters"),
        (
            "claims = { sub = \"nobody\" }",
            "claims = { sub = \"nobody\", jti = \"1\" }",
            "the issuer itself sets `jti`",
        ),
        ("claims = { sub = \"nobody\" }", "claims = { }", "claims need a `sub`"),
        ("claims = { sub = \"nobody\" }", "claims = { sub = \"nobody\" ", ""),
    ] {
        assert!(good.contains(from), "{from}");
        let (line, message) = refused(&good.replacen(from, to, 1));
        assert!(message.contains(expected), "{to}: {message}");
        assert!(line > 1, "{to}: {message}");
    }
}

#[test]
fn plans_and_licences_need_a_registry() {
    let good = configuration(std::path::Path::new("/nowhere"));
    let (before, after) = good.split_once("[oci]\n").expect("there");
    let (_, after) = after.split_once("service = \"registry.example\"\n").expect("there");
    let (line, message) = refused(&(before.to_owned() + after));
    assert!(message.contains("[[oci_plan]] and [[oci_licence]] need [oci]"), "{message}");
    assert!(line > 1);
}

#[test]
fn a_line_is_where_the_entry_is() {
    let text = "[server]\nlisten = \"127.0.0.1:0\"\ndata = \"d\"\n\n[[tenant]]\nid = \"a\"\n\n[[tenant]]\nid = \"a\"\n";
    assert_eq!(refused(text).0, 8);
    let text = "[server]\nlisten = \"127.0.0.1:0\"\ndata = \"d\"\nlog = 1\n";
    assert_eq!(refused(text).0, 4);
}
