//! What `init` needs to know, from flags or by asking.
//!
//! Never takes an answer that the configuration would refuse: each is read by the type that it becomes.

use std::path::{Path, PathBuf};

use server::protocol::cloud::{Cloud, CloudName, CustomCloud};
use server::protocol::ids::{ClientId, PublisherId};
use server::protocol::registration::CALLBACK_PATH;
use server::site::PublicUrl;

use super::ask::{Question, Questions};
use crate::cli::InitArgs;
use crate::exit::{Code, Failure};

/// Everything but the ids, which are known only after the registration.
pub(super) struct Answers {
    pub(super) cloud: Cloud,
    /// How a custom cloud was described.
    pub(super) custom: Option<CustomCloud>,
    pub(super) public_url: Option<PublicUrl>,
    pub(super) name: String,
    pub(super) dlp: bool,
    pub(super) proof: Proof,
}

/// What the app proves itself with.
pub(super) enum Proof {
    /// A key and certificate in PEM.
    Certificate(PathBuf),
    /// A file with a client secret.
    SecretFile(PathBuf),
    /// A variable with a client secret.
    SecretVariable(String),
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
    let proof = match (&args.secret_file, &args.secret_env, &args.certificate) {
        (Some(path), ..) => Proof::SecretFile(path.clone()),
        (_, Some(variable), _) => Proof::SecretVariable(variable.clone()),
        (_, _, Some(path)) => Proof::Certificate(path.clone()),
        (None, None, None) => {
            let default = folder.join("app.pem").display().to_string();
            let path = Question {
                text: "The file for the app's key and certificate; made when it is not there",
                flag: "--certificate",
                default: Some(&default),
            };
            Proof::Certificate(questions.ask(&path, |text| Ok(PathBuf::from(text)))?)
        }
    };
    Ok(Answers { cloud, custom, public_url, name, dlp, proof })
}

/// Asks what the registration gave.
pub(super) fn identity(questions: &mut Questions<'_>, args: &InitArgs) -> Result<Identity, Failure> {
    let client_id = Question {
        text: "The application (client) id that Entra ID shows for the new registration",
        flag: "--client-id",
        default: None,
    };
    let client_id = match args.client_id {
        Some(id) => id,
        None => questions.ask(&client_id, |text| text.parse().map_err(|error| format!("{error}")))?,
    };
    let publisher_id = Question {
        text: "The directory (tenant) id of the company that runs this program; Microsoft counts its requests by it",
        flag: "--publisher-id",
        default: None,
    };
    let publisher_id = match args.publisher_id {
        Some(id) => id,
        None => questions.ask(&publisher_id, |text| text.parse().map_err(|error| format!("{error}")))?,
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
