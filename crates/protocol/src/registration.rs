//! The app registration: what an operator enters in Entra ID, as facts, as JSON and as ready commands.
//!
//! Never asks and never sends: `tenantry init` prints what is made here. Never holds anything secret: of the certificate
//! only the public part.
//!
//! Sources: entra.md §2 (permissions, `keyCredentials`) and §1 (portals);
//! <https://learn.microsoft.com/en-us/graph/api/resources/keycredential>,
//! <https://learn.microsoft.com/en-us/cli/azure/ad/app>,
//! <https://learn.microsoft.com/en-us/entra/identity-platform/reference-microsoft-graph-app-manifest> (`groupMembershipClaims`)

mod federation;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::cloud::{Cloud, CloudName};
use crate::time::Timestamp;
use crate::token::{ACTIVITY_FEED_READ, ACTIVITY_FEED_READ_DLP, OFFICE_365_MANAGEMENT_APIS};

pub use federation::{FederatedIdentity, FederationFault};

/// The resource's name, as the portal lists it.
pub const RESOURCE_NAME: &str = "Office 365 Management APIs";

/// The path of the consent flow's callback below `public.url`: the registration's redirect URI ends with it.
pub const CALLBACK_PATH: &str = "/consent/callback";

/// The value of `groupMembershipClaims` that makes id_tokens tell the account's directory roles: what the consent site
/// knows an administrator by ([`crate::consent::AdminRole`]).
pub const DIRECTORY_ROLES: &str = "DirectoryRole";

/// An application permission of [`RESOURCE_NAME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Permission {
    /// Its name, as tokens carry it in `roles`.
    pub name: &'static str,
    /// The id of the application role (entra.md §2; several public scripts carry wrong ones).
    pub id: &'static str,
    /// What it is needed for.
    pub needed_for: &'static str,
}

/// Needed for every call.
pub const READ: Permission = Permission {
    name: ACTIVITY_FEED_READ,
    id: "594c1fb6-4f81-4475-ae41-0c394909246c",
    needed_for: "every call of the Activity API",
};

/// Needed for the sensitive values in `DLP.All`.
pub const READ_DLP: Permission = Permission {
    name: ACTIVITY_FEED_READ_DLP,
    id: "4807a72c-ad38-4250-94c9-4eabfe26cd55",
    needed_for: "the sensitive values in DLP.All records; without it they are withheld",
};

/// Permissions that no longer exist: one left in a registration breaks consent in new tenants (AADSTS650051).
pub const DEAD: [&str; 2] = ["ActivityReports.Read", "ThreatIntelligence.Read"];

/// The certificate that proves the app, as far as it is public.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisteredCertificate {
    /// Its subject, such as `CN=Tenantry`.
    pub subject: String,
    /// The certificate.
    pub der: Vec<u8>,
    /// SHA-1 of the DER: what the portal shows.
    pub sha1: [u8; 20],
    /// Its first moment.
    pub not_before: Timestamp,
    /// Its last moment.
    pub not_after: Timestamp,
    /// A fresh GUID: how the registration will call it.
    pub key_id: Uuid,
    /// The file with the certificate alone, in PEM or DER, for uploading.
    pub file: String,
}

/// What is to be registered.
#[derive(Debug, Clone)]
pub struct Registration<'a> {
    /// The cloud the app is registered in.
    pub cloud: &'a Cloud,
    /// What customers see on the consent page.
    pub display_name: &'a str,
    /// Where consent comes back to, letter for letter; `None` without a consent site.
    pub redirect_uri: Option<&'a str>,
    /// Whether [`READ_DLP`] is asked for.
    pub dlp: bool,
    /// The certificate; `None` when the app proves itself otherwise.
    pub certificate: Option<&'a RegisteredCertificate>,
    /// Whose tokens are taken instead; `None` when the app proves itself otherwise.
    pub federated: Option<&'a FederatedIdentity>,
}

/// A command to type, and what it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrationCommand {
    /// What it does; a sentence without a full stop.
    pub does: &'static str,
    /// For a POSIX shell.
    pub line: String,
}

impl RegisteredCertificate {
    /// The entry of `keyCredentials` as the manifest in the portal has it, with the certificate in `value`.
    pub fn key_credential(&self) -> Value {
        json!({
            "customKeyIdentifier": STANDARD.encode(self.sha1),
            "keyId": self.key_id,
            "type": "AsymmetricX509Cert",
            "usage": "Verify",
            "value": STANDARD.encode(&self.der),
        })
    }

    /// The same as Microsoft Graph has it, with the certificate in `key`.
    pub fn graph_key_credential(&self) -> Value {
        json!({
            "customKeyIdentifier": STANDARD.encode(self.sha1),
            "displayName": self.subject,
            "endDateTime": graph_time(self.not_after),
            "key": STANDARD.encode(&self.der),
            "keyId": self.key_id,
            "startDateTime": graph_time(self.not_before),
            "type": "AsymmetricX509Cert",
            "usage": "Verify",
        })
    }

    /// The thumbprint as the portal shows it: SHA-1 in upper-case hex.
    pub fn thumbprint(&self) -> String {
        self.sha1.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

impl Registration<'_> {
    /// The permissions to ask for: application permissions, all of them.
    pub fn permissions(&self) -> Vec<Permission> {
        if self.dlp { vec![READ, READ_DLP] } else { vec![READ] }
    }

    /// `requiredResourceAccess` of manifest and Graph alike. `Role` is an application permission.
    pub fn required_resource_access(&self) -> Value {
        let access: Vec<Value> =
            self.permissions().iter().map(|permission| json!({ "id": permission.id, "type": "Role" })).collect();
        json!([{ "resourceAppId": OFFICE_365_MANAGEMENT_APIS, "resourceAccess": access }])
    }

    /// The `keyCredentials` of the manifest; empty without a certificate.
    pub fn key_credentials(&self) -> Value {
        self.certificate.map(RegisteredCertificate::key_credential).into_iter().collect()
    }

    /// The whole application as Microsoft Graph creates it (`POST /v1.0/applications`).
    pub fn graph_application(&self) -> Value {
        let redirect_uris: Vec<&str> = self.redirect_uri.into_iter().collect();
        json!({
            "displayName": self.display_name,
            "signInAudience": "AzureADMultipleOrgs",
            "web": { "redirectUris": redirect_uris },
            "groupMembershipClaims": DIRECTORY_ROLES,
            "requiredResourceAccess": self.required_resource_access(),
            "keyCredentials": self.certificate.map(RegisteredCertificate::graph_key_credential).into_iter().collect::<Value>(),
        })
    }

    /// Where a person does it by hand (entra.md §1).
    pub fn portal(&self) -> &'static str {
        match self.cloud.name() {
            CloudName::Commercial | CloudName::Gcc | CloudName::Custom => "https://portal.azure.com",
            CloudName::GccHigh | CloudName::Dod => "https://portal.azure.us",
            CloudName::China => "https://portal.azure.cn",
        }
    }

    /// The commands of the Azure CLI that register the app, in order.
    pub fn az_commands(&self) -> Vec<RegistrationCommand> {
        let mut create = format!(
            "APP_ID=$(az ad app create --display-name {} --sign-in-audience AzureADMultipleOrgs",
            quoted(self.display_name)
        );
        if let Some(uri) = self.redirect_uri {
            create.push_str(&format!(" --web-redirect-uris {}", quoted(uri)));
        }
        let access = self.required_resource_access().to_string();
        create.push_str(&format!(" --required-resource-accesses {} --query appId --output tsv)", quoted(&access)));
        let mut commands = self.az_sign_in();
        commands.push(command("Creates the app registration with its permissions and redirect URI", create));
        commands.push(command(
            "Lets a sign-in tell the account's directory roles, by which the consent site knows an administrator",
            format!("az ad app update --id \"$APP_ID\" --set groupMembershipClaims={DIRECTORY_ROLES}"),
        ));
        if let Some(certificate) = self.certificate {
            let file = quoted(&format!("@{}", certificate.file));
            commands.push(command(
                "Uploads the certificate, beside any that is there",
                format!("az ad app credential reset --id \"$APP_ID\" --cert {file} --append"),
            ));
        }
        if let Some(federated) = self.federated {
            let parameters = quoted(&federated.to_json().to_string());
            commands.push(command(
                "Trusts the tokens that stand in for a secret",
                format!("az ad app federated-credential create --id \"$APP_ID\" --parameters {parameters}"),
            ));
        }
        commands.extend(self.az_consent());
        commands
    }

    /// The same by Microsoft Graph: one request creates everything, but for a federated credential, which takes another.
    pub fn graph_commands(&self) -> Vec<RegistrationCommand> {
        let graph = self.cloud.graph();
        let mut commands = self.az_sign_in();
        commands.push(command(
            "Creates the app registration with everything in it",
            format!(
                "APP_ID=$(az rest --method POST --url {graph}/v1.0/applications --resource {graph} --headers \
                 Content-Type=application/json --body {} --query appId --output tsv)",
                quoted(&self.graph_application().to_string())
            ),
        ));
        if let Some(federated) = self.federated {
            commands.push(command(
                "Trusts the tokens that stand in for a secret",
                format!(
                    "az rest --method POST --url \"{graph}/v1.0/applications(appId='$APP_ID')/federatedIdentityCredentials\" \
                     --resource {graph} --headers Content-Type=application/json --body {}",
                    quoted(&federated.to_json().to_string())
                ),
            ));
        }
        commands.extend(self.az_consent());
        commands
    }

    /// What a person enters by hand, step by step, with the commands that do the same at the end. Plain text.
    pub fn instructions(&self) -> String {
        let mut text = format!(
            "1. Register the application\n   {} > Microsoft Entra ID > App registrations > New registration\n   Name                     {}\n   \
             Supported account types  Accounts in any organizational directory (multitenant)\n",
            self.portal(),
            self.display_name
        );
        match self.redirect_uri {
            Some(uri) => text.push_str(&format!("   Redirect URI             Web: {uri}\n")),
            None => text.push_str("   Redirect URI             none: there is no consent site without a public URL\n"),
        }
        text.push_str(&format!(
            "\n2. Ask for its permissions\n   API permissions > Add a permission > APIs my organization uses > {RESOURCE_NAME} > \
             Application permissions\n   {RESOURCE_NAME}  {OFFICE_365_MANAGEMENT_APIS}\n"
        ));
        for permission in self.permissions() {
            text.push_str(&format!("   {:<20}  {}  {}\n", permission.name, permission.id, permission.needed_for));
        }
        text.push_str("   To collect your own tenant too: Grant admin consent, on the same page.\n");
        let mut step = 3;
        if let Some(certificate) = self.certificate {
            text.push_str(&format!(
                "\n{step}. Upload the certificate\n   Certificates & secrets > Certificates > Upload certificate\n   File        {}\n   \
                 Thumbprint  {}\n   Expires     {}\n   Or, in the manifest:\n   \"keyCredentials\": {}\n",
                certificate.file,
                certificate.thumbprint(),
                certificate.not_after.format("%Y-%m-%d"),
                self.key_credentials()
            ));
            step += 1;
        }
        if let Some(federated) = self.federated {
            text.push_str(&format!(
                "\n{step}. Trust the tokens that stand in for a secret\n   Certificates & secrets > Federated credentials > Add \
                 credential\n   Issuer    {}\n   Subject   {}\n   Audience  {}\n   Name      {}\n   As JSON   {}\n   Letter case counts \
                 in all of them. A new one takes minutes to act everywhere.\n",
                federated.issuer(),
                federated.subject(),
                federated.audience(),
                federated.name(),
                federated.to_json()
            ));
            step += 1;
        }
        text.push_str(&format!(
            "\n{step}. Let a sign-in tell who is an administrator\n   Token configuration > Add groups claim > Directory roles\n   \
             Or, in the manifest: \"groupMembershipClaims\": \"{DIRECTORY_ROLES}\"\n"
        ));
        for (title, commands) in [
            ("Or all of it with the Azure CLI", self.az_commands()),
            ("Or with Microsoft Graph", self.graph_commands()),
        ] {
            text.push_str(&format!("\n{title}\n"));
            for command in commands {
                text.push_str(&format!("   # {}\n   {}\n", command.does, command.line));
            }
        }
        text
    }

    fn az_sign_in(&self) -> Vec<RegistrationCommand> {
        let cloud = match self.cloud.name() {
            CloudName::Commercial | CloudName::Gcc => "AzureCloud",
            CloudName::GccHigh | CloudName::Dod => "AzureUSGovernment",
            CloudName::China => "AzureChinaCloud",
            // The operator's own, which has no name that we know.
            CloudName::Custom => return vec![command("Signs you in", "az login --allow-no-subscriptions".to_owned())],
        };
        vec![
            command("Chooses the cloud", format!("az cloud set --name {cloud}")),
            command("Signs you in", "az login --allow-no-subscriptions".to_owned()),
        ]
    }

    fn az_consent(&self) -> Vec<RegistrationCommand> {
        vec![
            command("Lets the app exist in your own tenant", "az ad sp create --id \"$APP_ID\"".to_owned()),
            command(
                "Consents for your own tenant, if it is to be collected too",
                "az ad app permission admin-consent --id \"$APP_ID\"".to_owned(),
            ),
            command("The application (client) id", "echo \"$APP_ID\"".to_owned()),
            command("Your tenant's id", "az account show --query tenantId --output tsv".to_owned()),
        ]
    }
}

fn command(does: &'static str, line: String) -> RegistrationCommand {
    RegistrationCommand { does, line }
}

/// RFC 3339 in whole seconds, as Graph takes it.
fn graph_time(time: Timestamp) -> String {
    time.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// One word for a POSIX shell, whatever is in it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::parse_timestamp;

    fn certificate() -> RegisteredCertificate {
        RegisteredCertificate {
            subject: "CN=Tenantry".to_owned(),
            der: vec![0x30, 0x82, 0xff],
            sha1: [0xab; 20],
            not_before: parse_timestamp("2026-11-23T00:00:00Z").unwrap(),
            not_after: parse_timestamp("2027-11-23T00:00:00.750Z").unwrap(),
            key_id: Uuid::from_u128(7),
            file: "app.crt".to_owned(),
        }
    }

    fn lines(commands: &[RegistrationCommand]) -> String {
        commands.iter().map(|command| format!("{}\n", command.line)).collect()
    }

    #[test]
    fn the_manifests_key_credential_has_its_five_fields_in_standard_base64() {
        let expected = json!({
            "customKeyIdentifier": "q6urq6urq6urq6urq6urq6urq6s=",
            "keyId": "00000000-0000-0000-0000-000000000007",
            "type": "AsymmetricX509Cert",
            "usage": "Verify",
            "value": "MIL/",
        });
        assert_eq!(certificate().key_credential(), expected);
        assert_eq!(certificate().thumbprint(), "AB".repeat(20));
    }

    #[test]
    fn graph_wants_the_certificate_as_key_with_its_validity() {
        let graph = certificate().graph_key_credential();
        assert_eq!(graph["key"], "MIL/");
        assert_eq!(graph["startDateTime"], "2026-11-23T00:00:00Z");
        assert_eq!(graph["endDateTime"], "2027-11-23T00:00:00Z");
        assert!(graph.get("value").is_none());
    }

    #[test]
    fn the_permissions_are_application_permissions_with_the_ids_of_the_reference() {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let mut registration = Registration {
            cloud: &cloud,
            display_name: "T",
            redirect_uri: None,
            dlp: true,
            certificate: None,
            federated: None,
        };
        let expected = json!([{
            "resourceAppId": "c5393580-f805-4401-95e8-94b7a6ef2fc2",
            "resourceAccess": [
                { "id": "594c1fb6-4f81-4475-ae41-0c394909246c", "type": "Role" },
                { "id": "4807a72c-ad38-4250-94c9-4eabfe26cd55", "type": "Role" },
            ],
        }]);
        assert_eq!(registration.required_resource_access(), expected);
        registration.dlp = false;
        assert_eq!(registration.permissions(), [READ]);
        assert!(registration.permissions().iter().all(|permission| !DEAD.contains(&permission.name)));
    }

    #[test]
    fn the_commands_carry_everything_and_stay_in_their_cloud() {
        let certificate = certificate();
        for (name, az, graph) in [
            (CloudName::Commercial, "AzureCloud", "https://graph.microsoft.com/"),
            (CloudName::Gcc, "AzureCloud", "https://graph.microsoft.com/"),
            (CloudName::GccHigh, "AzureUSGovernment", "https://graph.microsoft.us/"),
            (CloudName::Dod, "AzureUSGovernment", "https://dod-graph.microsoft.us/"),
            (CloudName::China, "AzureChinaCloud", "https://microsoftgraph.chinacloudapi.cn/"),
        ] {
            let cloud = Cloud::preset(name).unwrap();
            let registration = Registration {
                cloud: &cloud,
                display_name: "Contoso's collector",
                redirect_uri: Some("https://audit.example.com/consent/callback"),
                dlp: true,
                certificate: Some(&certificate),
                federated: None,
            };
            let by_az = lines(&registration.az_commands());
            for part in [
                az,
                "--display-name 'Contoso'\\''s collector'",
                "--sign-in-audience AzureADMultipleOrgs",
                "--web-redirect-uris https://audit.example.com/consent/callback",
                READ.id,
                READ_DLP.id,
                "--cert @app.crt --append",
                "admin-consent",
            ] {
                assert!(by_az.contains(part), "{part}: {by_az}");
            }
            let by_hand = registration.instructions();
            for part in [
                "Contoso's collector",
                "multitenant",
                "app.crt",
                READ.name,
                &certificate.thumbprint(),
                "az ad app create",
            ] {
                assert!(by_hand.contains(part), "{part}: {by_hand}");
            }
            let by_graph = lines(&registration.graph_commands());
            assert!(by_graph.contains(&format!("{graph}v1.0/applications")), "{by_graph}");
            assert!(by_graph.contains("MIL/") && by_graph.contains(az), "{by_graph}");
        }
    }

    #[test]
    fn without_a_consent_site_and_a_certificate_neither_is_mentioned() {
        let cloud = Cloud::preset(CloudName::Commercial).unwrap();
        let registration = Registration {
            cloud: &cloud,
            display_name: "T",
            redirect_uri: None,
            dlp: false,
            certificate: None,
            federated: None,
        };
        let by_az = lines(&registration.az_commands());
        assert!(!by_az.contains("redirect") && !by_az.contains("--cert"), "{by_az}");
        assert_eq!(registration.key_credentials(), json!([]));
        assert_eq!(registration.graph_application()["web"]["redirectUris"], json!([]));
    }

    #[test]
    fn a_word_for_the_shell_is_one_word() {
        for (text, expected) in
            [("app.crt", "app.crt"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("", "''"), ("$(x)", "'$(x)'")]
        {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn a_federated_credential_is_in_the_commands_and_in_the_steps() {
        let cloud = Cloud::preset(CloudName::GccHigh).unwrap();
        let subject = "repo:Contoso/it's:ref:refs/heads/main";
        let federated = FederatedIdentity::outside(&cloud, "github", "https://token.example", subject).unwrap();
        let registration = Registration {
            cloud: &cloud,
            display_name: "T",
            redirect_uri: None,
            dlp: false,
            certificate: None,
            federated: Some(&federated),
        };
        let in_shell = quoted(&federated.to_json().to_string());
        assert!(in_shell.contains("it'\\''s") && in_shell.contains("api://AzureADTokenExchangeUSGov"), "{in_shell}");
        let by_az = lines(&registration.az_commands());
        assert!(
            by_az.contains(&format!("federated-credential create --id \"$APP_ID\" --parameters {in_shell}")),
            "{by_az}"
        );
        assert!(by_az.contains("--set groupMembershipClaims=DirectoryRole"), "{by_az}");
        let by_graph = lines(&registration.graph_commands());
        let url = "\"https://graph.microsoft.us/v1.0/applications(appId='$APP_ID')/federatedIdentityCredentials\"";
        assert!(by_graph.contains(url) && by_graph.contains(&in_shell), "{by_graph}");
        assert_eq!(registration.graph_application()["groupMembershipClaims"], "DirectoryRole");
        let by_hand = registration.instructions();
        for part in [subject, "https://token.example", "Federated credentials", "Directory roles"] {
            assert!(by_hand.contains(part), "{part}: {by_hand}");
        }
    }
}
