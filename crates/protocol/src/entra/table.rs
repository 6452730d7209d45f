//! The AADSTS numbers of entra.md §6, each with what it means for this program.
//!
//! Never complete, and never taken for more than a refinement of `error`.

use super::disposition::{AppStep, ConsentStep, EntraDisposition, LOOP_WAIT};
use crate::error::{AdminStep, BackOffCause};

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) code: u32,
    pub(super) disposition: EntraDisposition,
    /// The operator's sentence.
    pub(super) says: &'static str,
}

/// A request loop was detected: ask far less often.
pub(super) const LOOP: EntraDisposition =
    EntraDisposition::RetryAfter { wait: LOOP_WAIT, cause: BackOffCause::Throttled };

const BUG: EntraDisposition = EntraDisposition::Bug;
const FAULT: EntraDisposition = EntraDisposition::BackOff { cause: BackOffCause::ServiceFault };
const THROTTLED: EntraDisposition = EntraDisposition::BackOff { cause: BackOffCause::Throttled };
const CLOCK: EntraDisposition = EntraDisposition::NewAssertion { if_repeated: AppStep::CheckClock };

const fn admin(step: AdminStep) -> EntraDisposition {
    EntraDisposition::NeedsTenantAdmin(step)
}
const fn app(step: AppStep) -> EntraDisposition {
    EntraDisposition::StopApp(step)
}
const fn consent(step: ConsentStep) -> EntraDisposition {
    EntraDisposition::ConsentFailed(step)
}
const fn means(code: u32, disposition: EntraDisposition, says: &'static str) -> Row {
    Row { code, disposition, says }
}

/// Codes that say little by themselves, and often come with a second one that says more.
const UMBRELLAS: [u32; 5] = [70002, 70021, 70000, 50012, 50000];

const ROWS: &[Row] = &[
    // The app's own credential: the same for every tenant.
    means(
        7_000_215,
        app(AppStep::CorrectSecret),
        "the client secret is wrong, or its id was given instead of its value",
    ),
    means(7_000_222, app(AppStep::RenewSecret), "the client secret has expired"),
    means(70_002, app(AppStep::CheckCredential), "the app's credential is not valid"),
    means(7_000_216, BUG, "the request carries no credential"),
    means(7_000_218, BUG, "the request carries neither client_secret nor client_assertion"),
    means(900_144, BUG, "the request lacks a parameter"),
    means(
        700_025,
        app(AppStep::FixRegistration),
        "the app is registered as a public client, which may have no credential",
    ),
    means(
        700_027,
        app(AppStep::UploadCertificate),
        "the certificate that signed the assertion is not registered on the app",
    ),
    means(700_024, CLOCK, "the assertion is outside its validity by Entra ID's clock"),
    means(700_023, BUG, "the assertion's audience is wrong"),
    means(700_021, BUG, "the assertion's subject is wrong"),
    means(7_000_214, app(AppStep::RotateCertificate), "the certificate is revoked or blocked"),
    means(1_000_502, app(AppStep::RotateCertificate), "the certificate is outside its own validity"),
    means(50_048, BUG, "the assertion's issuer and subject differ"),
    means(
        50_012,
        EntraDisposition::NewAssertion { if_repeated: AppStep::UploadCertificate },
        "the assertion or its certificate is not accepted",
    ),
    means(700_030, app(AppStep::UploadCertificate), "the certificate's subject is not authorised for the app"),
    // The app's registration.
    means(50_194, app(AppStep::MakeMultitenant), "the app is registered for a single tenant"),
    means(65_005, app(AppStep::FixRegistration), "a permission is asked for that the registration does not list"),
    means(650_056, app(AppStep::FixRegistration), "the app registration is misconfigured"),
    means(650_057, app(AppStep::FixRegistration), "the registration does not list \"Office 365 Management APIs\""),
    means(
        650_051,
        app(AppStep::FixRegistration),
        "the registration asks for a permission that no longer exists; remove it",
    ),
    means(50_011, app(AppStep::FixRegistration), "the redirect URI is not registered on the app, letter for letter"),
    // Federated credentials.
    means(700_211, app(AppStep::FixFederation), "no federated credential has this token's issuer"),
    means(700_212, app(AppStep::FixFederation), "no federated credential has this token's audience"),
    means(700_213, app(AppStep::FixFederation), "no federated credential has this token's subject"),
    means(7_002_137, app(AppStep::FixFederation), "the federated subject differs in form or letter case"),
    means(7_002_138, app(AppStep::FixFederation), "the federated subject differs in form or letter case"),
    means(70_021, app(AppStep::FixFederation), "no federated credential matches this token"),
    means(700_222, app(AppStep::FixFederation), "a token of Entra ID itself cannot serve as the federated assertion"),
    means(700_229, app(AppStep::FixFederation), "the federated assertion must be an app-only token"),
    // The customer's tenant.
    means(
        700_016,
        admin(AdminStep::GiveConsent),
        "the app is not in this tenant: no consent, revoked, or the wrong cloud",
    ),
    means(65_001, admin(AdminStep::GiveConsent), "this tenant has not consented to the app"),
    means(90_099, admin(AdminStep::GiveConsent), "the app is not authorised in this partner-managed tenant"),
    means(
        90_002,
        admin(AdminStep::CheckTenant),
        "Entra ID does not know this tenant: mistyped, deleted, or in another cloud",
    ),
    means(90_038, admin(AdminStep::CheckCloud), "this tenant belongs to another national cloud"),
    // Of one tenant, and so no reason to stop the app for the others.
    means(900_382, admin(AdminStep::CheckCloud), "this tenant belongs to another cloud than the app"),
    means(900_432, admin(AdminStep::CheckCloud), "this tenant belongs to another cloud than the app"),
    means(
        500_011,
        admin(AdminStep::CheckCloud),
        "this tenant has no Management API: no Office 365, or the wrong cloud",
    ),
    means(50_001, admin(AdminStep::CheckCloud), "the Management API is disabled or unknown in this tenant"),
    means(650_052, admin(AdminStep::SubscribeToOffice365), "this tenant has no Office 365 subscription"),
    means(50_105, admin(AdminStep::AllowApp), "this tenant demands an assignment, and the user has none"),
    means(501_051, admin(AdminStep::AllowApp), "this tenant demands an assignment, and the app has none"),
    means(7_000_112, admin(AdminStep::AllowApp), "the app is disabled, here or in its home tenant"),
    means(70_001, admin(AdminStep::AllowApp), "the app is disabled, here or in its home tenant"),
    means(
        53_003,
        admin(AdminStep::AllowNetwork),
        "a Conditional Access policy blocks the app, perhaps by this machine's address",
    ),
    means(53_000, admin(AdminStep::AllowNetwork), "a Conditional Access policy demands a compliant device"),
    means(530_032, admin(AdminStep::AllowNetwork), "a security policy of the tenant blocks the app"),
    means(530_035, admin(AdminStep::AllowNetwork), "a security policy of the tenant blocks the app"),
    means(1_000_031, admin(AdminStep::AllowApp), "the app cannot be accessed at present"),
    // A consent that is under way.
    means(65_004, consent(ConsentStep::Declined), "consent was declined"),
    means(90_094, consent(ConsentStep::WaitForAdmin), "an administrator's consent is needed"),
    means(90_095, consent(ConsentStep::WaitForAdmin), "the consent has been passed to the tenant's administrators"),
    means(50_020, consent(ConsentStep::OtherAccount), "the account belongs to another directory"),
    means(50_034, consent(ConsentStep::OtherAccount), "the account is not in this directory"),
    means(50_074, consent(ConsentStep::Challenge), "strong authentication is needed"),
    means(50_076, consent(ConsentStep::Challenge), "multi-factor authentication is needed"),
    means(50_079, consent(ConsentStep::Challenge), "multi-factor authentication has to be set up"),
    means(50_158, consent(ConsentStep::Challenge), "another challenge has to be passed"),
    means(54_005, consent(ConsentStep::Restart), "the code has been redeemed already"),
    means(70_008, consent(ConsentStep::Restart), "the code or refresh token has expired"),
    means(700_082, consent(ConsentStep::Restart), "the refresh token has expired from disuse"),
    means(70_000, consent(ConsentStep::Restart), "the code is malformed or not valid"),
    means(501_481, consent(ConsentStep::Restart), "the code verifier does not match its challenge"),
    means(50_147, consent(ConsentStep::Restart), "the code challenge is not valid"),
    means(501_491, consent(ConsentStep::Restart), "the code challenge is not valid"),
    // Ours.
    means(700_005, BUG, "the code was redeemed at another tenant than it was asked of"),
    means(50_059, BUG, "the request names no tenant"),
    means(90_019, BUG, "the request names no tenant"),
    means(9_001_023, BUG, "this grant cannot be used at /common"),
    means(90_124, BUG, "this resource cannot be used at /common"),
    means(90_130, BUG, "this app cannot be used at /common"),
    means(70_011, BUG, "the scope is not valid"),
    means(28_002, BUG, "the scope is not valid"),
    means(1_002_012, BUG, "the scope is not one /.default"),
    means(700_022, BUG, "two resources were asked for at once"),
    means(901_002, BUG, "the v2 endpoint was sent a resource"),
    // Passing trouble.
    means(50_196, LOOP, "Entra ID sees a request loop"),
    means(90_055, THROTTLED, "this tenant is throttled by Entra ID"),
    means(90_024, FAULT, "a passing fault of Entra ID"),
    means(90_033, FAULT, "Entra ID is temporarily not available"),
    means(90_006, FAULT, "a passing fault of Entra ID"),
    means(90_090, FAULT, "a passing fault of Entra ID"),
    means(50_033, FAULT, "a passing fault of Entra ID"),
    means(50_087, FAULT, "a passing fault of Entra ID"),
    means(90_012, FAULT, "a request to Entra ID timed out on its side"),
    means(50_000, FAULT, "Entra ID could not issue a token"),
    means(90_036, FAULT, "an unexpected fault of Entra ID, which may last"),
];

/// The row of a number.
pub(super) fn row(code: u32) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.code == code)
}

/// Of several numbers, the one that says most: known before unknown, particular before umbrella.
pub(super) fn telling(codes: &[u32]) -> Option<u32> {
    let known = |code: &&u32| row(**code).is_some();
    let particular = |code: &&u32| !UMBRELLAS.contains(code);
    codes
        .iter()
        .find(|code| known(code) && particular(code))
        .or_else(|| codes.iter().find(known))
        .or_else(|| codes.first())
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_stands_twice() {
        for (position, row) in ROWS.iter().enumerate() {
            assert_eq!(ROWS.iter().position(|other| other.code == row.code), Some(position), "{}", row.code);
        }
    }

    #[test]
    fn an_umbrella_gives_way_to_the_code_beside_it() {
        assert_eq!(telling(&[70_002, 70_008]), Some(70_008));
        assert_eq!(telling(&[70_002]), Some(70_002));
        assert_eq!(telling(&[1, 70_002]), Some(70_002));
        assert_eq!(telling(&[1, 2]), Some(1));
        assert_eq!(telling(&[]), None);
    }
}
