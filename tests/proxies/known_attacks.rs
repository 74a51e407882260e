//! Attacks of this class that other guards fell to, each against every proxy: what the application gets must be what
//! Keyward allowed, with the identity that Keyward found.

use keyward_proto::query::Asker;

use crate::rig::{Kind, Rig, expected_identity};
use crate::support::Home;
use crate::support::http::get;

/// May list tickets and nothing else.
const LISTER: &str = "key 5:5C9SXW9ZK2M4N6P8R0S1T5V7Y";

/// Sends `request` with the lister's credential in the place of `@`, and judges whatever reached the application.
/// `reaches`: whether anything may, at all.
fn attack(request: &str, reaches: bool) {
    let home = Home::new();
    let rig = Rig::start(&home);
    let mut query = home.query();
    for kind in Kind::ALL {
        let Some(proxy) = rig.proxy(kind) else { continue };
        // What may be done is done; or the rest would show nothing.
        let plain = get("/api/v2/tickets", &[&format!("Authorization: {LISTER}")]);
        assert_eq!((proxy.place().ask(plain).status, rig.application.take().len()), (200, 1), "{kind:?}");
        let mut connection = proxy.place().connect();
        connection.send(request.replace('@', &format!("Host: x\r\nAuthorization: {LISTER}\r\nConnection: close")));
        // Whatever the answers are, and however many.
        while connection.fill() {}
        let received = rig.application.take();
        assert!(reaches || received.is_empty(), "{kind:?}: {received:?}");
        for request in &received {
            let asker = Asker { credential: Some(LISTER.as_bytes()), ..Asker::default() };
            let (reason, verdict) = Rig::judge(&mut query, asker, request);
            assert_eq!(reason.name(), "ok", "{kind:?}: {request:?}");
            assert_eq!(request.identity(), expected_identity(&verdict), "{kind:?}: {request:?}");
        }
    }
}

macro_rules! attacks {
    ($($name:ident: $request:expr, $reaches:expr;)*) => {
        $(#[test] fn $name() { attack($request, $reaches); })*
    };
}

const DENIED: bool = false;
const JUDGED: bool = true;

attacks! {
    // oauth2-proxy and its like: a client's X-Forwarded-Uri names a path that needs no login.
    a_clients_x_forwarded_uri_is_not_the_path:
        "GET /api/v2/people/1 HTTP/1.1\r\n@\r\nX-Forwarded-Uri: /api/v2/tickets\r\nX-Forwarded-Method: GET\r\n\r\n", DENIED;
    a_clients_x_original_uri_is_not_the_path:
        "GET /api/v2/people/1 HTTP/1.1\r\n@\r\nX-Original-URI: /api/v2/tickets\r\nX-Original-Method: GET\r\n\r\n", DENIED;
    a_clients_x_original_url_and_x_rewrite_url_are_no_sources:
        "GET /api/v2/people/1 HTTP/1.1\r\n@\r\nX-Original-URL: /api/v2/tickets\r\nX-Rewrite-URL: /api/v2/tickets\r\n\r\n", DENIED;
    // oauth2-proxy, CVE-2025-54576: an allowed path in the query string.
    an_allowed_path_in_the_query_string_allows_nothing:
        "GET /api/v2/people/1?x=/api/v2/tickets HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // Traefik, CVE-2025-32431, and Envoy, CVE-2019-9901: the guard matches before dots are resolved.
    dot_segments_are_not_resolved_behind_the_guards_back:
        "GET /api/v2/tickets/../people/1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // Traefik, CVE-2025-47952: the same, encoded.
    encoded_dot_segments_are_not_resolved_behind_the_guards_back:
        "GET /api/v2/tickets/%2e%2e/people/1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // Envoy, CVE-2021-29492: %2F and %5C as separators to the application alone.
    encoded_slashes_separate_nothing:
        "GET /api/v2/tickets%2f..%2fpeople%2f1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    encoded_backslashes_separate_nothing:
        "GET /api/v2/tickets/..%5c..%5cpeople%5c1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    backslashes_separate_nothing: "GET /api/v2\\people\\1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // Apache httpd, CVE-2021-42013: decoded twice.
    nothing_is_decoded_twice: "GET /api/v2/tickets/%252e%252e/people/1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // F5, CVE-2020-5902, and Spring: parameters of a segment, cut off by the application.
    path_parameters_hide_nothing: "GET /api/v2/tickets/..;/people/1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // Envoy, CVE-2021-32779: a fragment in the request line.
    a_fragment_hides_nothing: "GET /api/v2/people/1#/../../tickets HTTP/1.1\r\n@\r\n\r\n", DENIED;
    a_fragment_behind_an_allowed_path_changes_nothing:
        "GET /api/v2/tickets#/../people/1 HTTP/1.1\r\n@\r\n\r\n", JUDGED;
    // Envoy and nginx with merge_slashes, Keycloak's policy enforcer: doubled slashes.
    doubled_slashes_are_not_merged: "GET //api/v2//people/1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    a_zero_byte_cuts_nothing_off: "GET /api/v2/tickets%00/../people/1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // Keycloak's gatekeeper: another case of the same letters.
    upper_case_is_another_path: "GET /API/V2/TICKETS HTTP/1.1\r\n@\r\n\r\n", DENIED;
    an_overlong_utf_8_dot_is_none: "GET /api/v2/tickets/%c0%ae%c0%ae/people/1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // The absolute form: the proxy takes the path, a guard might take the host for it.
    an_absolute_target_is_judged_by_its_path:
        "GET http://x/api/v2/people/1 HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // Symfony, Rails, Laravel: another method than the guard saw.
    a_method_override_is_refused: "GET /api/v2/tickets HTTP/1.1\r\n@\r\nX-HTTP-Method-Override: DELETE\r\n\r\n", DENIED;
    a_lower_case_method_is_refused: "get /api/v2/tickets HTTP/1.1\r\n@\r\n\r\n", DENIED;
    // Authelia, nginx and PHP: X_Keyward_Agent_Id is X-Keyward-Agent-Id to a CGI.
    underscores_forge_no_identity:
        "GET /api/v2/tickets HTTP/1.1\r\n@\r\nX_Keyward_Agent_Id: 666\r\nX-Keyward_Agent-Id: 666\r\n\r\n", JUDGED;
    // Caddy: a copied header that is missing in the answer lets the client's own through; here on a public endpoint.
    nobodys_identity_is_not_the_clients_own:
        "GET /api/v2/helpdesk/discover HTTP/1.1\r\n@\r\nX-Keyward-Agent-Id: 666\r\nX-Keyward-App-Id: 666\r\n\r\n", JUDGED;
    // Traefik, CVE-2024-45410: headers of the proxy's own, removed because the client's Connection names them.
    hop_by_hop_removes_no_identity:
        "GET /api/v2/tickets HTTP/1.1\r\n@, X-Keyward-Agent-Id, X-Keyward-Mode, X-Forwarded-Uri\r\n\r\n", JUDGED;
    hop_by_hop_removes_no_address: "GET /api/v2/tickets HTTP/1.1\r\n@, X-Forwarded-For, X-Real-IP\r\n\r\n", JUDGED;
    // Requests in the body of another.
    a_body_with_two_lengths_smuggles_nothing:
        "POST /api/v2/tickets HTTP/1.1\r\n@\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /api/v2/people/1 HTTP/1.1\r\nHost: x\r\n\r\n", DENIED;
    a_length_given_twice_smuggles_nothing:
        "GET /api/v2/tickets HTTP/1.1\r\n@\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n\
         GET /api/v2/people/1 HTTP/1.1\r\nHost: x\r\n\r\n", DENIED;
    a_blank_before_the_colon_smuggles_nothing:
        "GET /api/v2/tickets HTTP/1.1\r\n@\r\nTransfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", JUDGED;
    // A second credential that the application might read.
    a_second_credential_is_refused:
        "GET /api/v2/tickets HTTP/1.1\r\n@\r\nAuthorization: key 2:YWK2PGCS8CNW62SR8TBTBKWMY\r\n\r\n", DENIED;
    the_question_itself_is_open_to_nobody: "GET /_keyward HTTP/1.1\r\n@\r\n\r\n", DENIED;
    http_0_9_carries_no_credential: "GET /api/v2/tickets\r\n", DENIED;
}
