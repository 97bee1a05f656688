//! The provider: what it says of itself, its page, and what it says of who comes back from there.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hyper::{Method, Request, Response};
use openidconnect::{
    AuthorizationCode, ClaimsVerificationError as Fault, ClientId, ClientSecret, CsrfToken, DiscoveryError,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, IssuerUrl, Nonce, PkceCodeChallenge, RedirectUrl, RequestTokenError,
    Scope, SignatureVerificationError as Signature, TokenResponse,
    core::{
        CoreAuthenticationFlow, CoreClient, CoreIdToken, CoreJwsSigningAlgorithm as Algorithm, CoreProviderMetadata,
        CoreTokenResponse,
    },
};
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::{OidcError, Person, Secrets, plain};
use crate::{
    config::{Oidc, is_safe},
    tls::{TlsError, named_roots},
};

/// How long the provider may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer of it may be.
const LARGEST_ANSWER: u64 = 1 << 20;
/// What it says of itself is asked for anew after this time.
const KNOWN_FOR: Duration = Duration::from_secs(60 * 60);
/// Where its tokens are signed by a key that is not known, it is asked sooner, and so often at most.
const ASKED_AGAIN_EVERY: Duration = Duration::from_secs(10);
/// How its tokens may be signed: by a key that it alone has. Neither `none` nor the shared secret signs anything here
/// (RFC 8725, 3.1 and 3.2).
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RsaSsaPkcs1V15Sha256,
    Algorithm::RsaSsaPkcs1V15Sha384,
    Algorithm::RsaSsaPkcs1V15Sha512,
    Algorithm::RsaSsaPssSha256,
    Algorithm::RsaSsaPssSha384,
    Algorithm::RsaSsaPssSha512,
    Algorithm::EcdsaP256Sha256,
    Algorithm::EcdsaP384Sha384,
    Algorithm::EdDsa,
];
/// The scope that some providers tell groups for, and others refuse.
const GROUPS: &str = "groups";

/// Us, as the provider's client.
type Client =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// What the provider says of itself, and since when that is known.
#[derive(Clone)]
struct Known {
    metadata: Arc<CoreProviderMetadata>,
    read_at: Instant,
}

/// The provider of the configuration.
pub struct Provider {
    settings: Oidc,
    agent: ureq::Agent,
    known: Mutex<Option<Known>>,
    /// When it was asked because of a key that was not known.
    asked_again: Mutex<Option<Instant>>,
}

/// A sign-in that begins.
pub struct Begun {
    /// The provider's page.
    pub url: String,
    /// What comes back from there with the browser.
    pub state: String,
    /// What the end is held against.
    pub secrets: Secrets,
}

/// Why a request of ours came to nothing.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error("its address is not the issuer's kind")]
    Unsafe,
    #[error(transparent)]
    Failed(#[from] ureq::Error),
}

impl Provider {
    /// The provider that is configured; nothing is asked of it yet.
    pub fn new(settings: Oidc) -> Result<Self, TlsError> {
        let tls = match named_roots()? {
            None => TlsConfig::builder().build(),
            Some(roots) => {
                let roots = roots.iter().map(|root| Certificate::from_der(root).to_owned());
                TlsConfig::builder().root_certs(RootCerts::from(roots.collect::<Vec<_>>())).build()
            }
        };
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .tls_config(tls)
            .build();
        Ok(Self { settings, agent: agent.into(), known: Mutex::default(), asked_again: Mutex::default() })
    }

    /// Its host, for people.
    pub fn host(&self) -> &str {
        let behind_scheme = self.settings.issuer.split_once("://").map_or("", |(_, rest)| rest);
        behind_scheme.split('/').next().unwrap_or_default()
    }

    /// Begins a sign-in that comes back to this address. Blocks.
    pub fn begin(&self, redirect: String) -> Result<Begun, OidcError> {
        let known = self.known()?;
        if !self.is_its_kind(known.metadata.authorization_endpoint().as_str()) {
            return Err(OidcError::Unavailable("its page's address is not as safe as the issuer's"));
        }
        let has_groups =
            known.metadata.scopes_supported().is_some_and(|all| all.iter().any(|it| it.as_str() == GROUPS));
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let client = self.client(&known, &redirect)?;
        let mut request = client
            .authorize_url(CoreAuthenticationFlow::AuthorizationCode, CsrfToken::new_random, Nonce::new_random)
            .add_scope(Scope::new("profile".to_owned()))
            .set_pkce_challenge(challenge);
        if has_groups {
            request = request.add_scope(Scope::new(GROUPS.to_owned()));
        }
        let (url, state, nonce) = request.url();
        let secrets = Secrets { nonce, verifier, redirect };
        Ok(Begun { url: url.into(), state: state.into_secret(), secrets })
    }

    /// Who comes back with this code, and says that it is from `issuer`, if anybody said so. Blocks.
    pub fn finish(&self, code: String, issuer: Option<&str>, secrets: Secrets) -> Result<Person, OidcError> {
        // Against a code that another provider gave (RFC 9207).
        if issuer.is_some_and(|issuer| issuer != self.settings.issuer) {
            return Err(OidcError::NotAccepted("the answer is another provider's"));
        }
        let known = self.known()?;
        let Secrets { nonce, verifier, redirect } = secrets;
        let answer: CoreTokenResponse = self
            .client(&known, &redirect)?
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|_| OidcError::Unavailable("it names no address for tokens"))?
            .set_pkce_verifier(verifier)
            .request(&|request| self.ask(request))
            .map_err(|error| match error {
                RequestTokenError::ServerResponse(_) => OidcError::NotAccepted("the provider refused the code"),
                RequestTokenError::Request(_) => OidcError::Unavailable("it does not answer about the code"),
                _ => OidcError::Unavailable("it answers about the code as no provider does"),
            })?;
        let token = answer.id_token().ok_or(OidcError::NotAccepted("there is no ID token"))?;
        let mut verified = self.subject_of(token, &known, &redirect, &nonce);
        // It may have another key by now.
        if matches!(verified, Err(Fault::SignatureVerification(Signature::NoMatchingKey))) && self.may_ask_again() {
            verified = self.subject_of(token, &self.read()?, &redirect, &nonce);
        }
        let subject = verified.map_err(|fault| OidcError::NotAccepted(in_words(&fault)))?;
        self.person(subject, token)
    }

    /// Whom a token is about, if it is the provider's, for us, for this sign-in, and still good.
    fn subject_of(&self, token: &CoreIdToken, known: &Known, redirect: &str, nonce: &Nonce) -> Result<String, Fault> {
        let client = self.client(known, redirect).map_err(|error| Fault::Other(error.to_string()))?;
        let verifier = client.id_token_verifier().set_allowed_algs(ALGORITHMS);
        Ok(token.claims(&verifier, nonce)?.subject().to_string())
    }

    /// What a token says of somebody, once it is verified.
    fn person(&self, subject: String, token: &CoreIdToken) -> Result<Person, OidcError> {
        let claims = claims_in(&token.to_string()).ok_or(OidcError::NotAccepted("the ID token has no claims"))?;
        let groups = match &claims[&self.settings.groups_claim] {
            Value::String(group) => vec![group.clone()],
            Value::Array(groups) => groups.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let named = ["preferred_username", "name"].into_iter().find_map(|claim| plain(claims[claim].as_str()?));
        let name = named.or_else(|| plain(&subject)).unwrap_or_else(|| "somebody".to_owned());
        Ok(Person { role: self.settings.role_of(&groups), subject, name })
    }

    fn client(&self, known: &Known, redirect: &str) -> Result<Client, OidcError> {
        let (id, secret) = (&self.settings.client_id, self.settings.client_secret.expose());
        let client = CoreClient::from_provider_metadata(
            known.metadata.as_ref().clone(),
            ClientId::new(id.clone()),
            Some(ClientSecret::new(secret.to_owned())),
        );
        let redirect = RedirectUrl::new(redirect.to_owned());
        Ok(client.set_redirect_uri(redirect.map_err(|_| OidcError::NotAccepted("this host's name is none"))?))
    }

    /// What the provider says of itself.
    fn known(&self) -> Result<Known, OidcError> {
        let held = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match held.filter(|known| known.read_at.elapsed() < KNOWN_FOR) {
            Some(known) => Ok(known),
            None => self.read(),
        }
    }

    fn may_ask_again(&self) -> bool {
        let mut asked = self.asked_again.lock().unwrap_or_else(PoisonError::into_inner);
        let may = asked.is_none_or(|asked| asked.elapsed() >= ASKED_AGAIN_EVERY);
        if may {
            *asked = Some(Instant::now());
        }
        may
    }

    fn read(&self) -> Result<Known, OidcError> {
        let issuer = IssuerUrl::new(self.settings.issuer.clone());
        let issuer = issuer.map_err(|_| OidcError::Unavailable("the issuer is no URL"))?;
        let metadata = CoreProviderMetadata::discover(&issuer, &|request| self.ask(request));
        let metadata = metadata.map_err(|error| {
            OidcError::Unavailable(match error {
                DiscoveryError::Request(Unanswered::Unsafe) => "its keys' address is not as safe as the issuer's",
                DiscoveryError::Request(_) => "it does not answer",
                DiscoveryError::Validation(_) => "it calls itself otherwise than `access.oidc.issuer`",
                _ => "it does not say what a provider says of itself",
            })
        })?;
        let known = Known { metadata: Arc::new(metadata), read_at: Instant::now() };
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known.clone());
        Ok(known)
    }

    /// Whether it is safe to send something there, and as safe as to the issuer.
    fn is_its_kind(&self, url: &str) -> bool {
        let scheme = |url: &str| url.split_once(':').map(|(scheme, _)| scheme.to_ascii_lowercase());
        is_safe(url) && scheme(url) == scheme(&self.settings.issuer)
    }

    /// One request of the library's.
    fn ask(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, Unanswered> {
        if !self.is_its_kind(&request.uri().to_string()) {
            return Err(Unanswered::Unsafe);
        }
        let answer = match *request.method() {
            Method::GET => self.agent.run(request.map(drop)),
            _ => self.agent.run(request),
        };
        let (head, mut body) = answer?.into_parts();
        let body = body.with_config().limit(LARGEST_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, body))
    }
}

/// The claims of a token whose signature was verified.
fn claims_in(token: &str) -> Option<Value> {
    let claims = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&claims).ok()
}

fn in_words(fault: &Fault) -> &'static str {
    match fault {
        Fault::Expired(_) => "the ID token has expired",
        Fault::InvalidAudience(_) => "the ID token is for somebody else",
        Fault::InvalidIssuer(_) => "the ID token is another provider's",
        Fault::InvalidNonce(_) => "the ID token is of another sign-in",
        Fault::SignatureVerification(Signature::NoSignature) => "the ID token is not signed",
        Fault::SignatureVerification(Signature::DisallowedAlg(_)) => {
            "the ID token is signed in a way that is not taken"
        }
        Fault::SignatureVerification(_) => "the ID token's signature is not the provider's",
        _ => "the ID token is not understood",
    }
}
