//! What `init` may be told: every question it asks has a flag here.
//!
//! Never asks: `commands/init` does, for what is not given.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use server::protocol::ids::{ClientId, ContentType, PublisherId};

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The cloud whose tenants are collected: commercial, gcc, gcc_high, dod, china or custom
    #[arg(long, value_name = "NAME")]
    pub(crate) cloud: Option<String>,
    /// The login authority of a custom cloud
    #[arg(long, value_name = "URL")]
    pub(crate) login: Option<String>,
    /// The Activity API root of a custom cloud
    #[arg(long, value_name = "URL")]
    pub(crate) activity: Option<String>,
    /// Where browsers and Microsoft reach this collector, such as https://audit.example.com; "none" for no consent links
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// What customers see on the consent page
    #[arg(long, value_name = "TEXT")]
    pub(crate) name: Option<String>,
    /// Whether to ask for the sensitive values in DLP records
    #[arg(long, value_name = "YES|NO", value_parser = parse_yes_no)]
    pub(crate) dlp: Option<bool>,
    /// What proves the app: certificate, secret, federated or managed_identity; follows from the flags below
    #[arg(long, value_name = "KIND", value_enum)]
    pub(crate) credential: Option<ProofKind>,
    /// The app's key and certificate (PEM): made when the file is not there, used when it is
    #[arg(long, value_name = "FILE", group = "proof")]
    pub(crate) certificate: Option<PathBuf>,
    /// The new RSA key's length: 2048, 3072 or 4096
    #[arg(long, default_value_t = server::credential::KEY_BITS_DEFAULT)]
    pub(crate) bits: u32,
    /// For how many days the new certificate is valid, at most 3650
    #[arg(long, default_value_t = 365)]
    pub(crate) days: u32,
    /// Use a client secret instead: the file that holds it
    #[arg(long, value_name = "FILE", group = "proof")]
    pub(crate) secret_file: Option<PathBuf>,
    /// Use a client secret instead: the variable that holds it
    #[arg(long, value_name = "NAME", group = "proof")]
    pub(crate) secret_env: Option<String>,
    /// Use an outside issuer's tokens instead (Kubernetes, GitHub): the file that it renews
    #[arg(long, value_name = "FILE", group = "proof")]
    pub(crate) token_file: Option<PathBuf>,
    /// The outside issuer: its tokens' iss, letter for letter
    #[arg(long, value_name = "URL", conflicts_with_all = ["certificate", "secret_file", "secret_env", "managed_identity"])]
    pub(crate) issuer: Option<String>,
    /// Whose tokens: their sub, letter for letter, such as system:serviceaccount:NAMESPACE:NAME
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["certificate", "secret_file", "secret_env", "managed_identity"])]
    pub(crate) subject: Option<String>,
    /// Use a user-assigned managed identity instead: its object (principal) id
    #[arg(long, value_name = "ID", group = "proof")]
    pub(crate) managed_identity: Option<uuid::Uuid>,
    /// The application (client) id, as Entra ID shows it after the registration
    #[arg(long, value_name = "ID")]
    pub(crate) client_id: Option<ClientId>,
    /// The tenant id of the company that runs this program
    #[arg(long, value_name = "ID")]
    pub(crate) publisher_id: Option<PublisherId>,
    /// Only these content types [default: all five]
    #[arg(long, value_name = "TYPE")]
    pub(crate) content_type: Vec<ContentType>,
    /// Where to write the configuration [default: --config, else tenantry.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Take the default of every question that has one
    #[arg(long)]
    pub(crate) yes: bool,
    /// Overwrite a configuration that is there; keys and certificates are never overwritten
    #[arg(long)]
    pub(crate) force: bool,
    /// Make the certificate and print what to enter, and write no configuration: for when there is no client id yet
    #[arg(long, conflicts_with_all = ["client_id", "force"])]
    pub(crate) prepare: bool,
}

/// What proves the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum ProofKind {
    /// A private key and its certificate
    Certificate,
    /// A client secret
    Secret,
    /// Another issuer's tokens, in a file that it renews
    Federated,
    /// An Azure managed identity
    ManagedIdentity,
}

impl ProofKind {
    pub(crate) const NAMES: [(&'static str, Self); 4] = [
        ("certificate", Self::Certificate),
        ("secret", Self::Secret),
        ("federated", Self::Federated),
        ("managed_identity", Self::ManagedIdentity),
    ];
}

impl InitArgs {
    /// The kind that the flags stand for; `None` when none of them is there.
    pub(crate) fn proof_kind(&self) -> Option<ProofKind> {
        if self.certificate.is_some() {
            Some(ProofKind::Certificate)
        } else if self.secret_file.is_some() || self.secret_env.is_some() {
            Some(ProofKind::Secret)
        } else if self.token_file.is_some() || self.issuer.is_some() || self.subject.is_some() {
            Some(ProofKind::Federated)
        } else if self.managed_identity.is_some() {
            Some(ProofKind::ManagedIdentity)
        } else {
            None
        }
    }
}

pub(crate) fn parse_yes_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "yes" | "y" | "true" => Ok(true),
        "no" | "n" | "false" => Ok(false),
        _ => Err("write yes or no".to_owned()),
    }
}
