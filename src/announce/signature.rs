//! Signing secrets, and what is signed with them: Standard Webhooks 1.0
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>).

use base64::{Engine, prelude::BASE64_STANDARD};
use zeroize::Zeroizing;

use crate::crypto::{self, MacKey};

/// What a signing secret begins with.
const PREFIX: &str = "whsec_";

/// A new signing secret: its bytes, and how it is told.
pub fn new_secret() -> (MacKey, Zeroizing<String>) {
    let key = MacKey::generate();
    let mut told = Zeroizing::new(String::from(PREFIX));
    BASE64_STANDARD.encode_string(key.as_bytes(), &mut told);
    (key, told)
}

/// The header `webhook-signature` of a message.
pub fn signature(secret: &[u8], id: &str, timestamp: i64, body: &str) -> String {
    let signed = crypto::hmac_sha256(secret, format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", BASE64_STANDARD.encode(signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the libraries of Standard Webhooks are tested with.
    #[test]
    fn signs_as_standard_webhooks_has_it() {
        let secret = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_secret_is_told_as_its_bytes() {
        let (key, told) = new_secret();
        let bytes = BASE64_STANDARD.decode(told.strip_prefix(PREFIX).expect("its prefix")).expect("base64");
        assert_eq!(bytes, key.as_bytes());
        assert_ne!(*told, *new_secret().1);
    }
}
