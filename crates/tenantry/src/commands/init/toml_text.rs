//! The text of a new `tenantry.toml`.
//!
//! Never a secret in it: credentials are named by their place. What is not asked has its default, and is left out.

use std::path::Path;

use server::protocol::ids::ContentType;

use super::answers::{Answers, Identity, Proof};

/// The file's text. `folder` is where it will lie: paths beneath it are written relative to it.
pub(super) fn write(
    answers: &Answers,
    identity: &Identity,
    content_types: &[ContentType],
    data_dir: &Path,
    folder: &Path,
) -> String {
    let mut text = format!(
        "# Written by `tenantry init`. Every key may also come from the environment (TENANTRY_APP__CLIENT_ID=…);\n\
         # `tenantry config show` lists all of them with their values.\n\
         data_dir = {}\n\n\
         [app]\nclient_id    = {}\npublisher_id = {}\n\n[[app.credential]]\n",
        path(data_dir, Path::new("")),
        quoted(&identity.client_id.to_string()),
        quoted(&identity.publisher_id.to_string()),
    );
    text.push_str(&match &answers.proof {
        Proof::Certificate(file) => format!("kind = \"certificate\"\npath = {}\n", path(file, folder)),
        Proof::SecretFile(file) => format!("kind = \"secret\"\npath = {}\n", path(file, folder)),
        Proof::SecretVariable(name) => format!("kind = \"secret\"\nenv  = {}\n", quoted(name)),
        Proof::Federated(file, _) => format!("kind = \"federated\"\ntoken_file = {}\n", path(file, folder)),
        Proof::ManagedIdentity(object_id, _) => {
            format!("kind = \"managed_identity\"\nobject_id = {}\n", quoted(&object_id.to_string()))
        }
    });
    text.push_str(&format!("\n[cloud]\nname = {}\n", quoted(answers.cloud.name().as_str())));
    if let Some(custom) = &answers.custom {
        text.push_str(&format!("login    = {}\nactivity = {}\n", quoted(&custom.login), quoted(&custom.activity)));
    }
    if !content_types.is_empty() {
        let types: Vec<String> = content_types.iter().map(|one| quoted(one.as_str())).collect();
        text.push_str(&format!("\n[collect]\ncontent_types = [{}]\n", types.join(", ")));
    }
    if let Some(url) = &answers.public_url {
        text.push_str(&format!("\n[public]\nlisten = \"127.0.0.1:8365\"\nurl    = {}\n", quoted(&url.to_string())));
    }
    text
}

/// As the file will understand it: relative to the file's own folder, or absolute.
fn path(path: &Path, folder: &Path) -> String {
    let written = match path.strip_prefix(folder) {
        Ok(beneath) => beneath.to_owned(),
        Err(_) => std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    };
    quoted(&written.display().to_string())
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_relative_to_the_file_or_whole() {
        assert_eq!(path(Path::new("etc/app.pem"), Path::new("etc")), "\"app.pem\"");
        assert_eq!(path(Path::new("app.pem"), Path::new("")), "\"app.pem\"");
        assert!(path(Path::new("app.pem"), Path::new("etc")).ends_with("/app.pem\""));
        assert_eq!(path(Path::new("/run/app.pem"), Path::new("etc")), "\"/run/app.pem\"");
    }
}
