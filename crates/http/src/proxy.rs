//! Which proxy a request goes through, as the usual environment variables say.

use std::net::IpAddr;

use protected_model::environment::Environment;
use url::{Host, Url};

use crate::error::HttpError;

/// The proxies for plain and for TLS targets, and what goes past them.
#[derive(Clone, Default)]
pub(crate) struct Proxies {
    http: Option<Url>,
    https: Option<Url>,
    except: Vec<Exception>,
}

/// One entry of `NO_PROXY`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Exception {
    /// `*`
    Everything,
    /// `npm.example`, `.example`, `npm.example:8443`: that name and every name below it.
    Domain { name: String, port: Option<u16> },
    /// `10.0.0.1`, `10.0.0.0/8`, `fd00::/8`, `[fd00::1]:8443`: an address, or all that share its first bits.
    Network { address: IpAddr, prefix: u8, port: Option<u16> },
}

impl Proxies {
    /// Reads `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`; the lower-case name wins, as in curl.
    ///
    /// # Errors
    /// When a proxy is not an `http` or `https` URL.
    pub(crate) fn from_environment(environment: &Environment) -> Result<Self, HttpError> {
        let all = first(environment, &["all_proxy", "ALL_PROXY"])?;
        // A CGI server turns the request header `Proxy:` into HTTP_PROXY (httpoxy, CVE-2016-5385).
        let plain: &[&str] = match environment.get("REQUEST_METHOD") {
            Some(_) => &["http_proxy"],
            None => &["http_proxy", "HTTP_PROXY"],
        };
        let except = environment.get("no_proxy").or_else(|| environment.get("NO_PROXY")).unwrap_or_default();
        Ok(Self {
            http: first(environment, plain)?.or_else(|| all.clone()),
            https: first(environment, &["https_proxy", "HTTPS_PROXY"])?.or(all),
            except: except.split([',', ' ', '\t']).filter_map(Exception::parse).collect(),
        })
    }

    /// Returns the proxy for `url`, with its username and password.
    pub(crate) fn of(&self, url: &Url) -> Option<&Url> {
        let proxy = match url.scheme() {
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            _ => None,
        }?;
        let direct =
            is_loopback(url) || is_metadata(url) || self.except.iter().any(|exception| exception.covers(url));
        (!direct).then_some(proxy)
    }
}

/// Returns whether `url` is on this machine: a proxy would look on its own.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Returns whether `url` is of the link alone, where machines and containers are lent their credentials.
///
/// Attack: a proxy that is asked for them has them, in clear.
fn is_metadata(url: &Url) -> bool {
    matches!(url.host(), Some(Host::Ipv4(address)) if address.is_link_local())
}

fn first(environment: &Environment, names: &[&str]) -> Result<Option<Url>, HttpError> {
    let Some((name, value)) = names.iter().find_map(|name| Some((*name, environment.get(name)?))) else {
        return Ok(None);
    };
    let refuse = |reason: &str| HttpError::Settings { what: name.to_owned(), reason: reason.to_owned() };
    let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let url = Url::parse(&text)
        .ok()
        .filter(|url| url.host().is_some())
        .ok_or_else(|| refuse("expected a proxy such as `http://proxy.example:3128`"))?;
    match url.scheme() {
        "http" | "https" => Ok(Some(url)),
        _ => Err(refuse("only `http` and `https` proxies are supported")),
    }
}

impl Exception {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.trim().to_ascii_lowercase();
        if entry == "*" {
            return Some(Self::Everything);
        }
        if let Some(network) = Self::network(&entry) {
            return Some(network);
        }
        let (name, port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok()?)),
            None => (entry.as_str(), None),
        };
        let name = name.trim_start_matches("*.").trim_matches('.');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) || !byte.is_ascii();
        (!name.is_empty() && name.bytes().all(plain)).then(|| Self::Domain { name: name.to_owned(), port })
    }

    fn network(entry: &str) -> Option<Self> {
        if let Some((address, prefix)) = entry.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let prefix: u8 = prefix.parse().ok()?;
            return (prefix <= bits(address)).then_some(Self::Network { address, prefix, port: None });
        }
        if let Ok(address) = entry.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Some(Self::Network { address, prefix: bits(address), port: None });
        }
        let socket: std::net::SocketAddr = entry.parse().ok()?;
        Some(Self::Network { address: socket.ip(), prefix: bits(socket.ip()), port: Some(socket.port()) })
    }

    fn covers(&self, url: &Url) -> bool {
        let on = |port: &Option<u16>| port.is_none_or(|port| url.port_or_known_default() == Some(port));
        match (self, url.host()) {
            (Self::Everything, _) => true,
            (Self::Domain { name, port }, Some(Host::Domain(host))) => {
                let host = host.trim_end_matches('.');
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.ends_with('.'));
                on(port) && (host == name || below)
            }
            (Self::Network { address, prefix, port }, Some(Host::Ipv4(host))) => {
                on(port) && shares(*address, IpAddr::V4(host), *prefix)
            }
            (Self::Network { address, prefix, port }, Some(Host::Ipv6(host))) => {
                on(port) && shares(*address, IpAddr::V6(host), *prefix)
            }
            _ => false,
        }
    }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Returns whether two addresses of one family agree in their first `prefix` bits.
fn shares(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let differing = match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => return false,
    };
    differing >= u32::from(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Proxies {
        Proxies::from_environment(&pairs.iter().copied().collect()).expect("proxies")
    }

    fn through(proxies: &Proxies, url: &str) -> Option<String> {
        proxies.of(&Url::parse(url).expect("url")).map(ToString::to_string)
    }

    #[test]
    fn each_scheme_has_its_own_proxy() {
        let both = proxies(&[("HTTPS_PROXY", "http://s.example:1"), ("HTTP_PROXY", "p.example:2")]);
        assert_eq!(through(&both, "https://npm.example/").as_deref(), Some("http://s.example:1/"));
        assert_eq!(through(&both, "http://npm.example/").as_deref(), Some("http://p.example:2/"));
        let one = proxies(&[("https_proxy", "http://s.example:1")]);
        assert_eq!(through(&one, "http://npm.example/"), None);
        let all = proxies(&[("ALL_PROXY", "https://a.example:1"), ("http_proxy", "http://p.example:2")]);
        assert_eq!(through(&all, "https://npm.example/").as_deref(), Some("https://a.example:1/"));
        assert_eq!(through(&all, "http://npm.example/").as_deref(), Some("http://p.example:2/"));
    }

    #[test]
    fn lower_case_wins() {
        let both =
            proxies(&[("HTTPS_PROXY", "http://upper.example"), ("https_proxy", "http://lower.example")]);
        assert_eq!(through(&both, "https://npm.example/").as_deref(), Some("http://lower.example/"));
    }

    #[test]
    fn httpoxy() {
        let cgi = [("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "http://evil.example")];
        assert_eq!(through(&proxies(&cgi), "http://npm.example/"), None);
        let plain = [("HTTP_PROXY", "http://good.example")];
        assert!(through(&proxies(&plain), "http://npm.example/").is_some());
    }

    #[test]
    fn loopback_is_never_proxied() {
        let all = proxies(&[("ALL_PROXY", "http://a.example:1")]);
        for url in ["http://127.0.0.1:4873/", "http://127.9.9.9/", "http://[::1]:1/", "https://localhost/"] {
            assert_eq!(through(&all, url), None, "{url}");
        }
        for url in ["http://127.0.0.1.evil.example/", "https://localhost.example/"] {
            assert!(through(&all, url).is_some(), "{url}");
        }
    }

    #[test]
    fn what_lends_credentials_is_never_proxied() {
        let all = proxies(&[("ALL_PROXY", "http://a.example:1")]);
        for url in ["http://169.254.170.2/v2/credentials/x", "http://169.254.169.254/"] {
            assert_eq!(through(&all, url), None, "{url}");
        }
        for url in ["http://169.253.169.254/", "http://169.254.169.254.evil.example/"] {
            assert!(through(&all, url).is_some(), "{url}");
        }
    }

    #[test]
    fn exceptions() {
        let goes_direct = |list: &str, url: &str| {
            through(&proxies(&[("ALL_PROXY", "http://a.example:1"), ("NO_PROXY", list)]), url).is_none()
        };
        for (list, url) in [
            ("*", "https://npm.example/"),
            ("npm.example", "https://npm.example/"),
            ("NPM.Example", "https://npm.example/"),
            ("example", "https://npm.example/"),
            (".example", "https://npm.example/"),
            ("*.example", "https://npm.example/"),
            (".npm.example", "https://npm.example/"),
            ("other.example, npm.example", "https://npm.example/"),
            ("other.example npm.example", "https://npm.example/"),
            ("npm.example:443", "https://npm.example/"),
            ("npm.example:8443", "https://npm.example:8443/"),
            ("npm.example", "https://npm.example./"),
            ("10.1.2.3", "https://10.1.2.3/"),
            ("10.0.0.0/8", "https://10.1.2.3/"),
            ("0.0.0.0/0", "https://10.1.2.3/"),
            ("10.1.2.3:8443", "https://10.1.2.3:8443/"),
            ("fd00::/8", "https://[fd12::1]/"),
            ("[fd12::1]", "https://[fd12::1]/"),
            ("[fd12::1]:8443", "https://[fd12::1]:8443/"),
        ] {
            assert!(goes_direct(list, url), "{list} should cover {url}");
        }
        for (list, url) in [
            ("", "https://npm.example/"),
            (",", "https://npm.example/"),
            (".", "https://npm.example/"),
            ("npm.example", "https://evilnpm.example/"),
            ("npm.example", "https://npm.example.evil.test/"),
            (".pm.example", "https://npm.example/"),
            ("npm.example:8443", "https://npm.example/"),
            ("npm.example:x", "https://npm.example/"),
            ("https://npm.example", "https://npm.example/"),
            ("10.0.0.0/8", "https://11.1.2.3/"),
            ("10.0.0.0/33", "https://10.1.2.3/"),
            ("10.1.2.3:8443", "https://10.1.2.3/"),
            ("fd00::/8", "https://[fe80::1]/"),
            ("0.0.0.0/0", "https://[fe80::1]/"),
            ("0.0.0.0/0", "https://npm.example/"),
        ] {
            assert!(!goes_direct(list, url), "{list} should not cover {url}");
        }
    }

    #[test]
    fn a_bad_proxy_is_refused_without_being_repeated() {
        for value in
            ["socks5://u:hunter2@p.example", "http://", "ftp://u:hunter2@p.example", "http://u:hunter2@:1"]
        {
            let environment = [("HTTPS_PROXY", value)].into_iter().collect();
            let Err(error) = Proxies::from_environment(&environment) else { panic!("{value}") };
            let text = error.to_string();
            assert!(text.contains("HTTPS_PROXY") && !text.contains("hunter2"), "{text}");
        }
    }
}
