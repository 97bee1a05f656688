//! `[access.oidc]`: whose word is taken for who somebody is, and what they may do (OpenID Connect).

use hyper::Uri;

use super::{reader::Section, secret::Secret};
use crate::model::Role;

/// The claim that says which groups somebody is in, where nothing else is said.
const GROUPS: &str = "groups";

/// `[access.oidc]`
#[derive(Debug, Clone)]
pub struct Oidc {
    /// `issuer`: the provider, exactly as it calls itself.
    pub issuer: String,
    /// `client_id`: what the provider calls us.
    pub client_id: String,
    /// `client_secret`: what we show the provider.
    pub client_secret: Secret,
    /// `groups_claim`: where in an ID token the groups are. Default `groups`.
    pub groups_claim: String,
    /// `roles`: the groups of each role. Who is in groups of several has the highest.
    pub roles: Vec<(Role, Vec<String>)>,
}

impl Oidc {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let mut needed = |key: &'static str| {
            let text = section.text(key);
            if text.as_deref().is_none_or(str::is_empty) {
                section.fault(key, "is missing");
            }
            text.unwrap_or_default()
        };
        let (issuer, client_id) = (needed("issuer"), needed("client_id"));
        let client_secret = Secret::new(needed("client_secret"));
        if !issuer.is_empty() && !is_safe(&issuer) {
            section.fault("issuer", "is an URL that begins with https:// (or http:// and an address of this machine)");
        }
        let groups_claim = section.text("groups_claim").unwrap_or_else(|| GROUPS.to_owned());
        let roles = read_roles(section.section("roles"));
        if roles.iter().all(|(_, groups)| groups.is_empty()) {
            section.fault("roles", "names no group: nobody could sign in");
        }
        section.finish();
        Self { issuer, client_id, client_secret, groups_claim, roles }
    }

    /// What somebody may do who is in these groups.
    pub fn role_of(&self, groups: &[String]) -> Option<Role> {
        let of = self.roles.iter().filter(|(_, named)| named.iter().any(|group| groups.contains(group)));
        of.map(|(role, _)| *role).max()
    }
}

fn read_roles(mut section: Section<'_>) -> Vec<(Role, Vec<String>)> {
    let roles = Role::ALL.iter().map(|&role| (role, section.texts(role.as_str()))).collect();
    section.finish();
    roles
}

/// Whether nobody on the way can read or change what goes there.
pub fn is_safe(url: &str) -> bool {
    let Ok(url) = url.parse::<Uri>() else { return false };
    let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    match url.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_here,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_listens_to_is_safe() {
        for safe in ["https://id.example", "https://id.example/realms/a", "http://127.0.0.1:5556/dex", "http://[::1]:1"]
        {
            assert!(is_safe(safe), "{safe}");
        }
        for unsafe_one in
            ["http://id.example", "http://127.0.0.1.example", "ftp://127.0.0.1", "id.example", "", "https://"]
        {
            assert!(!is_safe(unsafe_one), "{unsafe_one}");
        }
    }

    #[test]
    fn who_is_in_groups_of_several_roles_has_the_highest() {
        let named = |groups: &[&str]| groups.iter().map(|group| (*group).to_owned()).collect::<Vec<_>>();
        let oidc = Oidc {
            issuer: String::new(),
            client_id: String::new(),
            client_secret: Secret::new(String::new()),
            groups_claim: GROUPS.to_owned(),
            roles: vec![(Role::Viewer, named(&["staff"])), (Role::Admin, named(&["ops-admins", "root"]))],
        };
        assert_eq!(oidc.role_of(&named(&["staff", "ops-admins"])), Some(Role::Admin));
        assert_eq!(oidc.role_of(&named(&["x", "staff"])), Some(Role::Viewer));
        assert_eq!((oidc.role_of(&named(&["Staff", "staff2"])), oidc.role_of(&[])), (None, None));
    }
}
