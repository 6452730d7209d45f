//! Every cloud by its own host names, over TLS and through a proxy; and a tenant that lives in another one is told so.

use std::path::PathBuf;
use std::process::{Command, Output};

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
