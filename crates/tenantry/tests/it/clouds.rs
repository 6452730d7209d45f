//! Every cloud by its own host names, over TLS and through a proxy; and a tenant that lives in another one is told so.

use std::path::PathBuf;
use std::process::{Command, Output};

use emulator::app::{FederatedCredential, ManagedIdentity};
use emulator::tls::CertificateAuthority;
use emulator::world::TenantSpec;
use emulator::{DEFAULT_SECRET, EmulatorOptions, WorldOptions, default_app};
use server::protocol::cloud::{Cloud, CloudName};
use server::protocol::ids::TenantId;
use tempfile::TempDir;

use crate::proxy::Proxy;
use crate::support::{Home, Microsoft, on_time, said};

/// All of Microsoft's clouds, one tenant in each, behind a proxy.
struct Microsofts {
    microsoft: Microsoft,
    proxy: Proxy,
    ca: PathBuf,
    _folder: TempDir,
}

const CLOUDS: [CloudName; 5] =
    [CloudName::Commercial, CloudName::Gcc, CloudName::GccHigh, CloudName::Dod, CloudName::China];

impl Microsofts {
    fn start(seed: u64) -> Self {
        let specs = CLOUDS.iter().map(|cloud| TenantSpec { cloud: *cloud, ..TenantSpec::default() }).collect();
        let world = WorldOptions {
            seed,
            tenants: CLOUDS.len(),
            specs,
            records_total: Some(500),
            lateness: on_time(),
            ..WorldOptions::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::load_or_create(folder.path()).unwrap();
        let microsoft = Microsoft::start_over_tls(EmulatorOptions { world, ..EmulatorOptions::default() }, &authority);
        let proxy = Proxy::to(microsoft.tls_address());
        Self { proxy, ca: folder.path().join("ca.pem"), microsoft, _folder: folder }
    }

    fn tenant(&self, cloud: CloudName) -> TenantId {
        self.microsoft.tenants()[CLOUDS.iter().position(|one| *one == cloud).unwrap()]
    }

    /// A folder with a configuration for this cloud, and nothing but its name about it.
    fn home(&self, cloud: CloudName) -> Home {
        let home = Home::empty();
        let app = default_app(self.microsoft.emulator.world().options().seed);
        home.write("secret.txt", DEFAULT_SECRET);
        home.write(
            "tenantry.toml",
            &format!(
                "[app]\nclient_id = \"{}\"\npublisher_id = \"{}\"\n[[app.credential]]\nkind = \"secret\"\n\
                 path = \"secret.txt\"\n[cloud]\nname = \"{}\"\n[console]\nlisten = \"127.0.0.1:0\"\n",
                app.client_id,
                app.home_tenant,
                cloud.as_str()
            ),
        );
        std::fs::set_permissions(home.path().join("secret.txt"), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        home
    }

    fn command(&self, home: &Home, arguments: &[&str]) -> Command {
        let mut command = home.tenantry(arguments);
        command.env("HTTPS_PROXY", self.proxy.url()).env("SSL_CERT_FILE", &self.ca);
        command
    }

    fn run(&self, home: &Home, arguments: &[&str]) -> Output {
        self.command(home, arguments).output().unwrap()
    }
}

#[test]
fn each_cloud_is_collected_by_its_own_names_and_no_others() {
    let microsofts = Microsofts::start(3_101);
    for cloud in CLOUDS {
        let proxy = Proxy::to(microsofts.microsoft.tls_address());
        let home = microsofts.home(cloud);
        let tenant = microsofts.tenant(cloud).to_string();
        for arguments in [&["tenant", "add", &tenant][..], &["collect", "--once"], &["doctor"]] {
            let output = microsofts.command(&home, arguments).env("HTTPS_PROXY", proxy.url()).output().unwrap();
            assert!(output.status.success(), "{cloud:?} {arguments:?}: {}", said(&output));
        }
        let preset = Cloud::preset(cloud).unwrap();
        let mut expected: Vec<String> = [preset.login(), preset.resource()]
            .iter()
            .map(|root| root.trim_start_matches("https://").to_owned())
            .collect();
        expected.sort();
        assert_eq!(proxy.hosts(), expected, "{cloud:?}");
    }
}

#[test]
fn a_tenant_of_another_cloud_is_told_so_when_it_is_added_examined_and_shown() {
    let microsofts = Microsofts::start(3_102);
    let home = microsofts.home(CloudName::Commercial);
    for (cloud, words) in [
        (CloudName::Gcc, "lives in GCC,"),
        (CloudName::GccHigh, "lives in GCC High,"),
        (CloudName::Dod, "lives in the DoD cloud,"),
        (CloudName::China, "lives in the China cloud,"),
    ] {
        let tenant = microsofts.tenant(cloud).to_string();
        let refused = microsofts.run(&home, &["tenant", "add", &tenant]);
        assert_eq!(refused.status.code(), Some(4), "{cloud:?}: {}", said(&refused));
        let text = said(&refused);
        assert!(text.contains(words) && text.contains(&format!("name = \"{}\"", cloud.as_str())), "{text}");

        let examined = microsofts.run(&home, &["doctor", "--tenant", &tenant]);
        assert_eq!(examined.status.code(), Some(4), "{cloud:?}: {}", said(&examined));
        let text = said(&examined);
        assert!(text.contains(&format!("[cloud] name = \"{}\"", cloud.as_str())), "{text}");
        assert!(text.contains("skip  token: the tenant is not in this cloud"), "{text}");
    }

    // Added all the same, it is shown as that, and stands in nobody else's way.
    let (ours, foreign) = (microsofts.tenant(CloudName::Commercial), microsofts.tenant(CloudName::GccHigh));
    assert!(microsofts.run(&home, &["tenant", "add", &ours.to_string()]).status.success());
    let unchecked = ["tenant", "add", &foreign.to_string(), "--unchecked"];
    assert!(microsofts.run(&home, &unchecked).status.success());
    let collected = microsofts.run(&home, &["collect", "--once"]);
    assert_eq!(collected.status.code(), Some(4), "{}", said(&collected));
    let tenants: serde_json::Value =
        serde_json::from_slice(&microsofts.run(&home, &["--json", "tenant", "list"]).stdout).unwrap();
    let problem_of = |id: TenantId| {
        let tenants = tenants.as_array().unwrap();
        tenants.iter().find(|tenant| tenant["tenant_id"] == id.to_string()).unwrap()["problem"].clone()
    };
    assert_eq!(problem_of(foreign)["kind"], "wrong_cloud", "{tenants}");
    let message = problem_of(foreign)["message"].to_string();
    assert!(message.contains("lives in GCC High,") && message.contains("gcc_high"), "{message}");
    assert!(problem_of(ours).is_null(), "{tenants}");
    assert!(!home.segments(&microsofts.microsoft, ours).is_empty());
}

#[test]
fn a_proxy_that_looks_into_tls_is_recognised_and_told_how_to_live_with() {
    let microsofts = Microsofts::start(3_103);
    let home = microsofts.home(CloudName::Commercial);
    let other = tempfile::tempdir().unwrap();
    CertificateAuthority::load_or_create(other.path()).unwrap();
    let output =
        microsofts.command(&home, &["doctor"]).env("SSL_CERT_FILE", other.path().join("ca.pem")).output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let text = said(&output);
    assert!(text.contains("FAIL  tls (login.microsoftonline.com)") && text.contains("SSL_CERT_FILE"), "{text}");
    assert!(text.contains("through 127.0.0.1:"), "{text}");
}

#[test]
fn a_managed_identity_is_registered_as_printed_and_proves_the_app_on_an_app_service() {
    let microsofts = Microsofts::start(3_104);
    let (home_tenant, apps) = (microsofts.tenant(CloudName::Commercial), microsofts.microsoft.emulator.apps());
    let client_id = default_app(3_104).client_id;
    let identity = ManagedIdentity {
        client_id: "22222222-2222-4222-8222-222222222222".parse().unwrap(),
        object_id: "33333333-3333-4333-8333-333333333333".parse().unwrap(),
        tenant: home_tenant,
        resource_id: Some("/subscriptions/s/resourceGroups/g/providers/m/userAssignedIdentities/collector".into()),
    };
    apps.add_managed_identity(identity.clone());
    apps.open_app_service("853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a");

    let home = Home::empty();
    let (client_id_text, home_text) = (client_id.to_string(), home_tenant.to_string());
    let mut arguments = vec!["--json", "init", "--yes", "--client-id", &client_id_text, "--publisher-id", &home_text];
    let object_id = identity.object_id.to_string();
    arguments.extend(["--managed-identity", &object_id]);
    let output = microsofts.run(&home, &arguments);
    assert!(output.status.success(), "{}", said(&output));
    let sheet: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let printed = &sheet["federatedIdentityCredentials"][0];
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    apps.update(client_id, |app| {
        app.secrets.clear();
        app.federated.push(FederatedCredential {
            issuer: text(&printed["issuer"]),
            subject: text(&printed["subject"]),
            audience: text(&printed["audiences"][0]),
            jwks: None,
        });
    });
    let inside = |arguments: &[&str]| {
        let mut command = microsofts.command(&home, arguments);
        command.env("IDENTITY_ENDPOINT", format!("{}/msi/token", microsofts.microsoft.root()));
        command.env("IDENTITY_HEADER", "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a").output().unwrap()
    };
    let tenant = home_tenant.to_string();
    for arguments in [&["tenant", "add", &tenant][..], &["collect", "--once"], &["doctor"]] {
        let output = inside(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    }
    assert!(!home.segments(&microsofts.microsoft, home_tenant).is_empty());

    // An Arc-enabled server's identity is none that Entra ID takes for this.
    let arc = microsofts
        .command(&home, &["doctor"])
        .env("IDENTITY_ENDPOINT", "http://localhost:40342/metadata/identity/oauth2/token")
        .env("IMDS_ENDPOINT", "http://localhost:40342")
        .output()
        .unwrap();
    assert_eq!(arc.status.code(), Some(3), "{}", said(&arc));
    assert!(said(&arc).contains("system-assigned") && said(&arc).contains("certificate"), "{}", said(&arc));
}
