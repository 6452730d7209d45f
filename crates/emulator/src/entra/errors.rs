//! The AADSTS errors: for each number the `error`, the HTTP status and the sentence it comes with (entra.md §6).
//!
//! Never decides when an error arises. The endpoints raise an [`EntraError`] where a rule is broken, and a fault plan may
//! ask for any number; `reply` puts it into a JSON body, a page or a redirect.

/// What a number stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) code: u32,
    pub(crate) error: &'static str,
    pub(crate) status: u16,
    pub(crate) text: &'static str,
}

/// An error about to be told to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntraError {
    pub(crate) code: u32,
    pub(crate) error: &'static str,
    pub(crate) status: u16,
    /// Without the `AADSTS…: ` before it and the trace lines after it.
    pub(crate) text: String,
    /// A second number in `error_codes`, as some refusals have.
    pub(crate) also: Option<u32>,
}

impl EntraError {
    /// The error of this number, in its row's own words.
    pub(crate) fn new(code: u32) -> Self {
        let row = row(code);
        Self::with_text(code, row.text)
    }

    /// The error of this number, in words that name what was wrong.
    pub(crate) fn with_text(code: u32, text: impl Into<String>) -> Self {
        let row = row(code);
        // The umbrella of the old code-redemption errors came before the precise number (entra.md §6).
        let also = (code == 70008).then_some(70002);
        Self { code, error: row.error, status: row.status, text: text.into(), also }
    }

    /// A parameter that must be there is not.
    pub(crate) fn missing(parameter: &str) -> Self {
        Self::with_text(900144, format!("The request body must contain the following parameter: '{parameter}'."))
    }

    /// The same number under another `error`, as it is on a redirect instead of in a body.
    pub(crate) fn named(mut self, error: &'static str) -> Self {
        self.error = error;
        self
    }

    /// `suberror` of the body.
    pub(crate) fn suberror(&self) -> Option<&'static str> {
        match self.code {
            65001 => Some("consent_required"),
            50076 | 50079 | 50074 | 50158 => Some("basic_action"),
            53000..=53003 | 530_032 | 530_035 => Some("message_only"),
            70008 | 700_082 => Some("bad_token"),
            _ => None,
        }
    }

    /// `claims` of the body: what the client must ask for to satisfy Conditional Access.
    pub(crate) fn claims(&self) -> Option<&'static str> {
        matches!(self.code, 53003 | 50076 | 50079 | 50158).then_some(
            r#"{"access_token":{"capolids":{"essential":true,"values":["00000000-0000-0000-0000-0000000000ca"]}}}"#,
        )
    }

    /// Shown on Microsoft's own page and never sent to the app's reply URL, because the reply URL cannot be trusted yet.
    pub(crate) fn stays_on_page(&self) -> bool {
        matches!(
            self.code,
            50011 | 500_113 | 700_016 | 50194 | 90002 | 900_023 | 900_382 | 900_432 | 90038 | 7_000_112 | 70001 | 50059
        )
    }
}

/// The row of a number; one that has none is an `invalid_request`.
pub(crate) fn row(code: u32) -> Row {
    let found = ROWS.iter().find(|row| row.code == code).copied();
    found.unwrap_or(Row { code, error: INVALID_REQUEST, status: 400, text: "The request could not be completed." })
}

const INVALID_REQUEST: &str = "invalid_request";
const INVALID_CLIENT: &str = "invalid_client";
const INVALID_GRANT: &str = "invalid_grant";
const UNAUTHORIZED: &str = "unauthorized_client";
const INVALID_SCOPE: &str = "invalid_scope";
const INVALID_RESOURCE: &str = "invalid_resource";
const ACCESS_DENIED: &str = "access_denied";
const UNAVAILABLE: &str = "temporarily_unavailable";
const SERVER_ERROR: &str = "server_error";
const INTERACTION: &str = "interaction_required";

const fn r(code: u32, error: &'static str, status: u16, text: &'static str) -> Row {
    Row { code, error, status, text }
}

/// In the order of the numbers. Where entra.md §6 gives a pair of meanings, the first is here.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    r(28000, INVALID_REQUEST, 400, "Provided value for the input parameter scope is not valid because it contains more than one resource."),
    r(28002, INVALID_SCOPE, 400, "Provided value for the input parameter scope is not valid when requesting an access token. Please specify a valid scope."),
    r(28003, INVALID_SCOPE, 400, "Provided value for the input parameter scope cannot be empty when requesting an access token using the provided authorization code. Please specify a valid scope."),
    r(50000, SERVER_ERROR, 500, "There was an error issuing a token or an issue with our sign-in service."),
    r(50001, INVALID_RESOURCE, 400, "The resource is disabled or was not found in the tenant."),
    r(50011, INVALID_CLIENT, 400, "The redirect URI specified in the request does not match the redirect URIs configured for the application."),
    r(50012, INVALID_CLIENT, 401, "Client assertion could not be authenticated."),
    r(50013, INVALID_GRANT, 400, "Assertion failed signature validation."),
    r(50020, ACCESS_DENIED, 400, "User account from another identity provider does not exist in the tenant and cannot access the application in that tenant. The account needs to be added as an external user in the tenant first."),
    r(50027, INVALID_REQUEST, 400, "JWT token is invalid or malformed."),
    r(50033, UNAVAILABLE, 503, "A transient error occurred. Please try again."),
    r(50034, ACCESS_DENIED, 400, "The user account does not exist in the directory. To sign into this application, the account must be added to the directory."),
    r(50048, INVALID_CLIENT, 401, "Subject must match Issuer claim in the client assertion."),
    r(50049, "invalid_instance", 400, "Unknown or invalid instance."),
    r(50058, "login_required", 400, "A silent sign-in request was sent but no user is signed in."),
    r(50059, INVALID_REQUEST, 400, "No tenant-identifying information found in either the request or implied by any provided credentials."),
    r(50074, INTERACTION, 400, "Strong Authentication is required."),
    r(50076, INTERACTION, 400, "Due to a configuration change made by your administrator, or because you moved to a new location, you must use multi-factor authentication to access the resource."),
    r(50079, INTERACTION, 400, "Due to a configuration change made by your administrator, or because you moved to a new location, you must enroll in multi-factor authentication to access the resource."),
    r(50087, UNAVAILABLE, 503, "A transient error has occurred during strong authentication. Please try again."),
    r(50105, INVALID_GRANT, 400, "The signed in user is not assigned to a role for the application."),
    r(50147, INVALID_REQUEST, 400, "Missing or invalid code_challenge parameter."),
    r(50158, INTERACTION, 400, "External security challenge not satisfied. User will be redirected to another page or authentication provider to satisfy additional authentication challenges."),
    r(50194, UNAUTHORIZED, 400, "The application is not configured as a multi-tenant application. Usage of the /common endpoint is not supported for such apps. Use a tenant-specific endpoint or configure the application to be multi-tenant."),
    r(50196, INVALID_GRANT, 400, "The server terminated an operation because it encountered a client request loop. Please contact your app vendor."),
    r(53000, ACCESS_DENIED, 400, "Device is not in required device state. Conditional Access policy requires a compliant device, and the device is not compliant."),
    r(53003, ACCESS_DENIED, 400, "Access has been blocked by Conditional Access policies. The access policy does not allow token issuance."),
    r(54005, INVALID_GRANT, 400, "OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token."),
    r(65001, INVALID_GRANT, 400, "The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource."),
    r(65004, ACCESS_DENIED, 400, "User declined to consent to access the app."),
    r(65005, INVALID_REQUEST, 400, "The application requested a permission that its registration does not list."),
    r(70000, INVALID_GRANT, 400, "The provided value for the input parameter 'code' or 'refresh_token' is not valid."),
    r(70001, UNAUTHORIZED, 400, "The application is disabled or was not found in the directory."),
    r(70002, INVALID_CLIENT, 401, "Error validating credentials."),
    r(70003, "unsupported_grant_type", 400, "The app requested an unsupported grant type."),
    r(70005, "unsupported_response_type", 400, "The app requested an unsupported response type."),
    r(70007, INVALID_REQUEST, 400, "The app requested an unsupported value of 'response_mode'."),
    r(70008, INVALID_GRANT, 400, "The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource."),
    r(70011, INVALID_SCOPE, 400, "The provided value for the input parameter 'scope' is not valid."),
    r(70021, INVALID_REQUEST, 400, "No matching federated identity record found for presented assertion."),
    r(90002, INVALID_REQUEST, 400, "Tenant not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud. Check with your subscription administrator, this may happen if there are no active subscriptions for the tenant."),
    r(90006, UNAVAILABLE, 503, "The service is temporarily unavailable."),
    r(90012, UNAVAILABLE, 504, "The request has timed out."),
    r(90019, INVALID_REQUEST, 400, "Unable to determine the tenant identifier from the request."),
    r(90023, INVALID_REQUEST, 400, "The request is not valid."),
    r(90024, UNAVAILABLE, 503, "A transient error has occurred. Please try again."),
    r(90033, UNAVAILABLE, 503, "A transient error has occurred. Please try again."),
    r(90036, SERVER_ERROR, 500, "An unexpected, non-retryable error stemming from the directory service has occurred."),
    r(90038, INVALID_REQUEST, 400, "The tenant specified in the request belongs to another national cloud."),
    r(90055, UNAVAILABLE, 429, "There are too many incoming requests for this tenant."),
    r(90090, UNAVAILABLE, 503, "Call to the directory service failed. Please try again."),
    r(90094, ACCESS_DENIED, 400, "Administrator consent is required for the permissions requested by this application."),
    r(90095, ACCESS_DENIED, 400, "Administrator consent is required for the permissions requested by this application. The administrator has been asked."),
    r(90099, UNAUTHORIZED, 400, "The application has not been authorized in the tenant. Applications must be authorized to access the external tenant before partner delegated administrators can use them."),
    r(90124, INVALID_REQUEST, 400, "The resource is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint."),
    r(90130, INVALID_REQUEST, 400, "The application is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint."),
    r(500_011, INVALID_RESOURCE, 400, "The resource principal was not found in the tenant. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You might have sent your authentication request to the wrong tenant."),
    r(500_112, INVALID_CLIENT, 400, "The reply address does not match the reply address provided when requesting the authorization code."),
    r(500_113, INVALID_REQUEST, 400, "No reply address is registered for the application."),
    r(501_051, ACCESS_DENIED, 400, "The application is not assigned to a role for the resource."),
    r(501_481, INVALID_GRANT, 400, "The Code_Verifier does not match the code_challenge supplied in the authorization request."),
    r(501_491, INVALID_REQUEST, 400, "Invalid size of Code_Challenge parameter."),
    r(530_032, ACCESS_DENIED, 400, "Blocked by Conditional Access on the security policy of the tenant."),
    r(530_035, ACCESS_DENIED, 400, "Access has been blocked by security defaults."),
    r(650_051, INVALID_CLIENT, 400, "The application asks for a permission that does not exist any more or that the resource does not expose."),
    r(650_052, ACCESS_DENIED, 400, "The app needs access to a service that your organization has not subscribed to or enabled. Contact your IT Admin to review the configuration of your service subscriptions."),
    r(650_056, UNAUTHORIZED, 400, "Misconfigured application. The client has not listed any permissions for the resource in its registration, or the administrator has not consented in the tenant."),
    r(650_057, INVALID_RESOURCE, 400, "Invalid resource. The client has requested access to a resource which is not listed in the requested permissions in the client's application registration."),
    r(700_005, INVALID_GRANT, 400, "Provided Authorization Code is intended to use against other tenant, thus rejected. OAuth2 Authorization Code must be redeemed against same tenant it was acquired for (/common or /{tenant-ID} as appropriate)."),
    r(700_016, UNAUTHORIZED, 400, "The application was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant or consented to by any user in the tenant. You may have sent your authentication request to the wrong tenant."),
    r(700_021, INVALID_CLIENT, 401, "Client assertion application identifier doesn't match 'client_id' parameter."),
    r(700_022, INVALID_REQUEST, 400, "The provided value for the input parameter 'scope' is not valid because it contains more than one resource."),
    r(700_023, INVALID_CLIENT, 401, "Client assertion audience claim does not match Realm issuer."),
    r(700_024, INVALID_CLIENT, 401, "Client assertion is not within its valid time range."),
    r(700_025, INVALID_CLIENT, 401, "Client is public so neither 'client_assertion' nor 'client_secret' should be presented."),
    r(700_027, INVALID_CLIENT, 401, "Client assertion contains an invalid signature."),
    r(700_030, INVALID_CLIENT, 401, "Invalid certificate - subject name in certificate is not authorized."),
    r(700_054, "unsupported_response_type", 400, "response_type 'id_token' is not enabled for the application."),
    r(700_082, INVALID_GRANT, 400, "The refresh token has expired due to inactivity."),
    r(700_211, INVALID_CLIENT, 401, "No matching federated identity record found for presented assertion issuer."),
    r(700_212, INVALID_CLIENT, 401, "No matching federated identity record found for presented assertion audience."),
    r(700_213, INVALID_CLIENT, 401, "No matching federated identity record found for presented assertion subject."),
    r(700_222, INVALID_CLIENT, 401, "Entra ID-issued tokens may not be used for federated identity credential flows for applications or managed identities in this tenant."),
    r(700_229, INVALID_CLIENT, 401, "Only app-only tokens may be used as a federated identity credential for an Entra ID issuer."),
    r(900_023, INVALID_REQUEST, 400, "Specified tenant identifier is neither a valid DNS name, nor a valid external domain."),
    r(900_144, INVALID_REQUEST, 400, "The request body must contain a parameter that is missing."),
    r(900_382, INVALID_REQUEST, 400, "Confidential Client is not supported in Cross Cloud request."),
    r(900_432, INVALID_REQUEST, 400, "Confidential Client is not supported in Cross Cloud request."),
    r(900_561, INVALID_REQUEST, 400, "The endpoint only accepts POST requests. Received another request."),
    r(901_002, INVALID_REQUEST, 400, "The 'resource' request parameter is not supported."),
    r(1_000_031, UNAUTHORIZED, 400, "The application cannot be accessed at this time. Contact your administrator."),
    r(1_000_502, INVALID_CLIENT, 401, "The provided certificate is not within its specified validity window."),
    r(1_002_012, INVALID_SCOPE, 400, "The provided value for scope is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier (application ID URI)."),
    r(7_000_112, UNAUTHORIZED, 400, "The application is disabled."),
    r(7_000_214, INVALID_CLIENT, 401, "The certificate has been revoked or blocked."),
    r(7_000_215, INVALID_CLIENT, 401, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to the app."),
    r(7_000_216, INVALID_CLIENT, 401, "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."),
    r(7_000_218, INVALID_CLIENT, 401, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."),
    r(7_000_222, INVALID_CLIENT, 401, "The provided client secret keys are expired. Create new keys for your app, or consider using certificate credentials for added security."),
    r(7_002_137, INVALID_CLIENT, 401, "No matching federated identity record found for presented assertion subject: the formats differ."),
    r(7_002_138, INVALID_CLIENT, 401, "No matching federated identity record found for presented assertion subject: the letter case differs. Comparison is case-sensitive."),
    r(9_000_411, INVALID_REQUEST, 400, "The request is not properly formatted. A parameter is duplicated."),
    r(9_001_023, INVALID_REQUEST, 400, "The grant type is not supported over the /common or /consumers endpoints. Please use the /organizations or tenant-specific endpoint."),
    r(9_002_313, INVALID_REQUEST, 400, "Invalid request. Request is malformed or invalid."),
    r(9_002_326, INVALID_REQUEST, 400, "Cross-origin token redemption is permitted only for the 'Single-Page Application' client-type."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_holds_no_number_twice() {
        for pair in ROWS.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].code, pair[1].code);
        }
    }

    #[test]
    fn every_status_is_one_that_entra_uses_and_every_sentence_ends() {
        for row in ROWS {
            assert!([400, 401, 403, 429, 500, 503, 504].contains(&row.status), "{}", row.code);
            assert!(row.text.ends_with('.'), "{}", row.code);
            assert_eq!(row.status == 401, row.error == INVALID_CLIENT && row.status == 401, "{}", row.code);
        }
    }

    /// The rows of entra.md §6 with its pairing of `error` and status, where it gives one.
    #[test]
    fn rows_have_the_pairing_the_reference_gives() {
        let pairs = [
            (7_000_215, "invalid_client", 401),
            (7_000_222, "invalid_client", 401),
            (700_016, "unauthorized_client", 400),
            (700_027, "invalid_client", 401),
            (700_024, "invalid_client", 401),
            (90002, "invalid_request", 400),
            (65001, "invalid_grant", 400),
            (70011, "invalid_scope", 400),
            (500_011, "invalid_resource", 400),
            (54005, "invalid_grant", 400),
            (70008, "invalid_grant", 400),
            (700_211, "invalid_client", 401),
            (700_212, "invalid_client", 401),
            (700_213, "invalid_client", 401),
            (70021, "invalid_request", 400),
            (901_002, "invalid_request", 400),
        ];
        for (code, error, status) in pairs {
            let row = row(code);
            assert_eq!((row.error, row.status), (error, status), "{code}");
        }
        assert_eq!(row(123).error, "invalid_request");
        assert_eq!(EntraError::new(65001).suberror(), Some("consent_required"));
        assert_eq!(EntraError::new(70008).also, Some(70002));
    }
}
