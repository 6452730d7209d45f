//! What `init` needs to know, from flags or by asking.
//!
//! Never takes an answer that the configuration would refuse: each is read by the type that it becomes.

use std::path::{Path, PathBuf};

use server::protocol::cloud::{Cloud, CloudName, CustomCloud};
use server::protocol::ids::{ClientId, PublisherId};
use server::protocol::registration::{CALLBACK_PATH, FederatedIdentity};
use server::site::PublicUrl;
use uuid::Uuid;

use super::ask::{Question, Questions};
use crate::cli::{InitArgs, ProofKind};
use crate::exit::{Code, Failure};

/// Where Azure's workload identity webhook puts a pod's token (entra.md §5.3).
const KUBERNETES_TOKEN: &str = "/var/run/secrets/azure/tokens/azure-identity-token";

/// What the registration calls the trust in an outside issuer.
const FEDERATED_NAME: &str = "tenantry";

/// Everything but the ids, which are known only after the registration.
pub(super) struct Answers {
    pub(super) cloud: Cloud,
    /// How a custom cloud was described.
    pub(super) custom: Option<CustomCloud>,
    pub(super) public_url: Option<PublicUrl>,
    pub(super) name: String,
    pub(super) dlp: bool,
    pub(super) proof: Proof,
    /// Known before the registration when a managed identity needs it.
    publisher_id: Option<PublisherId>,
}

/// What the app proves itself with.
pub(super) enum Proof {
    /// A key and certificate in PEM.
    Certificate(PathBuf),
    /// A file with a client secret.
    SecretFile(PathBuf),
    /// A variable with a client secret.
    SecretVariable(String),
    /// An outside issuer's tokens in a file.
    Federated(PathBuf, FederatedIdentity),
    /// A managed identity, by its object id.
    ManagedIdentity(Uuid, FederatedIdentity),
}

/// What the registration gave.
pub(super) struct Identity {
    pub(super) client_id: ClientId,
    pub(super) publisher_id: PublisherId,
}

impl Answers {
    /// Where consent comes back to.
    pub(super) fn redirect_uri(&self) -> Option<String> {
        self.public_url.as_ref().map(|url| url.page(CALLBACK_PATH))
    }
}

/// Asks what is to be known before the registration.
pub(super) fn gather(questions: &mut Questions<'_>, args: &InitArgs, folder: &Path) -> Result<Answers, Failure> {
    let (cloud, custom) = cloud(questions, args)?;
    let public_url = Question {
        text: "The address that browsers and Microsoft reach this collector by, for consent links; none for no such site",
        flag: "--public-url",
        default: Some("none"),
    };
    let public_url = given_or_asked(questions, args.public_url.as_deref(), &public_url, read_public_url)?;
    let name = Question {
        text: "The application's name, which customers see on the consent page",
        flag: "--name",
        default: Some("Tenantry"),
    };
    let name = given_or_asked(questions, args.name.as_deref(), &name, read_name)?;
    let dlp = match args.dlp {
        Some(dlp) => dlp,
        None => {
            let dlp = Question {
                text: "Collect the sensitive values in DLP records too (permission ActivityFeed.ReadDlp)",
                flag: "--dlp",
                default: Some("yes"),
            };
            questions.ask(&dlp, crate::cli::parse_yes_no)?
        }
    };
    let (proof, publisher_id) = proof(questions, args, folder, &cloud)?;
    Ok(Answers { cloud, custom, public_url, name, dlp, proof, publisher_id })
}

fn proof(
    questions: &mut Questions<'_>,
    args: &InitArgs,
    folder: &Path,
    cloud: &Cloud,
) -> Result<(Proof, Option<PublisherId>), Failure> {
    let file = |questions: &mut Questions<'_>, given: &Option<PathBuf>, question: &Question<'_>| match given {
        Some(path) => Ok(path.clone()),
        None => questions.ask(question, |text| match text {
            "" => Err("must be a file's name".to_owned()),
            text => Ok(PathBuf::from(text)),
        }),
    };
    let proof = match proof_kind(questions, args)? {
        ProofKind::Certificate => {
            let default = folder.join("app.pem").display().to_string();
            let text = "The file for the app's key and certificate; made when it is not there";
            let question = Question { text, flag: "--certificate", default: Some(&default) };
            Proof::Certificate(file(questions, &args.certificate, &question)?)
        }
        ProofKind::Secret => match &args.secret_env {
            Some(variable) => Proof::SecretVariable(variable.clone()),
            None => {
                let text = "The file that holds the client secret's value";
                let question = Question { text, flag: "--secret-file", default: None };
                Proof::SecretFile(file(questions, &args.secret_file, &question)?)
            }
        },
        ProofKind::Federated => {
            let text = "The file that holds the issuer's token and that it renews";
            let question = Question { text, flag: "--token-file", default: Some(KUBERNETES_TOKEN) };
            Proof::Federated(file(questions, &args.token_file, &question)?, federated(questions, args, cloud)?)
        }
        ProofKind::ManagedIdentity => {
            let text = "The object (principal) id of the user-assigned managed identity";
            let question = Question { text, flag: "--managed-identity", default: None };
            let object_id = match args.managed_identity {
                Some(id) => id,
                None => questions.ask(&question, |text| text.parse().map_err(|_| "must be a GUID".to_owned()))?,
            };
            let home = publisher(questions, args)?;
            return Ok((
                Proof::ManagedIdentity(object_id, FederatedIdentity::managed(cloud, home, object_id)),
                Some(home),
            ));
        }
    };
    Ok((proof, None))
}

fn proof_kind(questions: &mut Questions<'_>, args: &InitArgs) -> Result<ProofKind, Failure> {
    match args.credential.or(args.proof_kind()) {
        Some(kind) => Ok(kind),
        None => {
            let names = ProofKind::NAMES.map(|(name, _)| name).join(", ");
            let text = format!("What proves the app: {names}");
            let question = Question { text: &text, flag: "--credential", default: Some("certificate") };
            questions.ask(&question, |text| {
                let known = ProofKind::NAMES.iter().find(|(name, _)| *name == text);
                known.map(|(_, kind)| *kind).ok_or_else(|| format!("must be one of {names}, not {text:?}"))
            })
        }
    }
}

fn federated(questions: &mut Questions<'_>, args: &InitArgs, cloud: &Cloud) -> Result<FederatedIdentity, Failure> {
    let issuer = Question { text: "The issuer: its tokens' iss, letter for letter", flag: "--issuer", default: None };
    let read_issuer = |text: &str| match FederatedIdentity::outside(cloud, FEDERATED_NAME, text, "any") {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let issuer = given_or_asked(questions, args.issuer.as_deref(), &issuer, read_issuer)?;
    let subject = Question {
        text: "Whose tokens: their sub, such as system:serviceaccount:NAMESPACE:NAME",
        flag: "--subject",
        default: None,
    };
    given_or_asked(questions, args.subject.as_deref(), &subject, |text| {
        FederatedIdentity::outside(cloud, FEDERATED_NAME, &issuer, text).map_err(|error| error.to_string())
    })
}

fn publisher(questions: &mut Questions<'_>, args: &InitArgs) -> Result<PublisherId, Failure> {
    let publisher_id = Question {
        text: "The directory (tenant) id of the company that runs this program; Microsoft counts its requests by it",
        flag: "--publisher-id",
        default: None,
    };
    match args.publisher_id {
        Some(id) => Ok(id),
        None => questions.ask(&publisher_id, |text| text.parse().map_err(|error| format!("{error}"))),
    }
}

/// Asks what the registration gave.
pub(super) fn identity(questions: &mut Questions<'_>, args: &InitArgs, answers: &Answers) -> Result<Identity, Failure> {
    let client_id = Question {
        text: "The application (client) id that Entra ID shows for the new registration",
        flag: "--client-id",
        default: None,
    };
    let client_id = match args.client_id {
        Some(id) => id,
        None => questions.ask(&client_id, |text| text.parse().map_err(|error| format!("{error}")))?,
    };
    let publisher_id = match answers.publisher_id {
        Some(id) => id,
        None => publisher(questions, args)?,
    };
    Ok(Identity { client_id, publisher_id })
}

fn cloud(questions: &mut Questions<'_>, args: &InitArgs) -> Result<(Cloud, Option<CustomCloud>), Failure> {
    let names: Vec<&str> = CloudName::ALL.iter().map(|(name, _)| *name).collect();
    let text = format!("The cloud whose tenants are collected: {}", names.join(", "));
    let question = Question { text: &text, flag: "--cloud", default: Some("commercial") };
    let name = given_or_asked(questions, args.cloud.as_deref(), &question, |text| {
        let known = CloudName::ALL.iter().find(|(name, _)| *name == text);
        known.map(|(_, name)| *name).ok_or_else(|| format!("must be one of {}, not {text:?}", names.join(", ")))
    })?;
    if let Some(cloud) = Cloud::preset(name) {
        if args.login.is_some() || args.activity.is_some() {
            return Err(Failure::new(Code::Usage, "--login and --activity are for --cloud custom only"));
        }
        return Ok((cloud, None));
    }
    let mut root = |text: &str, flag: &str, given: &Option<String>| {
        let question = Question { text, flag, default: None };
        given_or_asked(questions, given.as_deref(), &question, |text| match text {
            "" => Err("must be an address such as https://127.0.0.1:7000".to_owned()),
            text => Ok(text.to_owned()),
        })
    };
    let described = CustomCloud {
        login: root("The login authority's address", "--login", &args.login)?,
        activity: root("The Activity API's address", "--activity", &args.activity)?,
        graph: None,
        resource: None,
    };
    let cloud = Cloud::custom(&described).map_err(|error| Failure::new(Code::Usage, error))?;
    Ok((cloud, Some(described)))
}

fn given_or_asked<T>(
    questions: &mut Questions<'_>,
    given: Option<&str>,
    question: &Question<'_>,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<T, Failure> {
    match given {
        Some(text) => read(text).map_err(|error| Failure::new(Code::Usage, format!("{} {error}", question.flag))),
        None => questions.ask(question, read),
    }
}

fn read_public_url(text: &str) -> Result<Option<PublicUrl>, String> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("{error}"))
}

fn read_name(text: &str) -> Result<String, String> {
    // The limit of Graph's `displayName`.
    if text.is_empty() || text.chars().count() > 256 || text.chars().any(char::is_control) {
        return Err("must have 1 to 256 characters and no control characters".to_owned());
    }
    Ok(text.to_owned())
}
